"""The training loop, with its losses, schedules and loggers."""
