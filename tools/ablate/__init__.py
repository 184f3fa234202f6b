"""Experiments with variants of the parameters: which are run, how DVC runs them, and their tables."""
