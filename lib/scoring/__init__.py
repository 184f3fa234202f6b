"""How good predictions are: scores, baselines, intervals, paired comparisons."""
