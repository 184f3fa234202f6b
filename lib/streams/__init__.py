"""Streams, a module or folder each, found by name: what is made of every clip and kept in a folder of shards."""
