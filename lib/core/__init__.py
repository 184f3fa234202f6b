"""What every other package stands on and what knows none of them: errors, parameters, clips, targets, shards, resuming."""
