"""Scripts that DVC runs: each reads its section of params.yaml, calls lib, and writes its outputs."""

from lib.core import threads

threads.set_environment()  # before a stage imports torch
