"""Streams, a module or folder each, found by name: features of every clip, stored in a folder of shards."""
