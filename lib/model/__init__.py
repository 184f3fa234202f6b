"""The network: encoders, fusions, heads; its weights and its file."""
