"""The training loop, with its losses and schedules."""
