"""Regressions of targets on vectors of clips: ridge, boosted trees, and the weights of a stack."""
