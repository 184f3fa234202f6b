"""Scripts that DVC runs: each reads its section of params.yaml, calls lib, and writes its outputs."""

from lib.core import interrupts

interrupts.begin_loading()  # before anything else is imported

from lib.core import threads  # noqa: E402

threads.set_environment()  # before a stage imports torch
