"""The registry of weights: list, fetch and verify them."""
