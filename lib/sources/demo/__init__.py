"""The demo corpus: a talking head rendered with planted labels."""
