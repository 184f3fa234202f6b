"""From shards to batches: select the steps of clips, stack clips to batches, and augment them."""
