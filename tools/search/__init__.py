"""Choice of hyperparameters by validation scores: the values that are tried, their experiments and their tables."""
