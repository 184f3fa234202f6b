"""The base of all other packages: errors, parameters, clips, targets, shards, resuming. It imports none of them."""
