"""Commands that users run next to the pipeline."""

from lib.core import threads

threads.set_environment()  # before a tool imports torch
