"""Evaluation of predictions: scores, baselines, intervals and paired comparisons."""
