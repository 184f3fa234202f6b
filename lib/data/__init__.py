"""From shards to batches: which steps of a clip are read, how clips are stacked and augmented."""
