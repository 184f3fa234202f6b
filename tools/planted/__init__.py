"""Experiments on the demo's planted targets, whose truth is known, and the figure of their main table."""
