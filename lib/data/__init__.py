"""Read batches from shards: select the time steps of clips, stack clips to batches, and augment them."""
