"""Streams: features of every clip, stored in a folder of shards. Each module or folder here is a stream of that name."""
