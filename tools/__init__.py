"""Commands that users run next to the pipeline."""

from lib.core import interrupts

interrupts.begin_loading()  # before anything else is imported

from lib.core import threads  # noqa: E402

threads.set_environment()  # before a tool imports torch
