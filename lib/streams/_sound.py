"""Level of audio and voice activity, shared by the streams sound_descriptors, voice and faces."""

import numpy as np

from lib.streams._measures import find_runs

RATE = 16_000
"""Sampling rate of the audio in Hz."""

QUIET = 30.0
"""A window is quiet if its level is at least this number of dB below that of the loudest window."""


def measure_power(windows: np.ndarray) -> np.ndarray:
    """Return the mean power (T,) of windows (T, N) in dB relative to a power of 1; at least -100 dB."""
    return 10 * np.log10(np.maximum((windows**2).mean(1), 1e-10))


def find_quiet(power: np.ndarray) -> np.ndarray:
    """Return (T,) whether a window is quiet compared with the loudest, given the power (T,) in dB."""
    return power - power.max() <= -QUIET


def join_turns(active: np.ndarray, shortest_pause: int, shortest_turn: int) -> np.ndarray:
    """Return (T,) whether a step belongs to a turn, given where the voice is active (T,).

    A gap of fewer than `shortest_pause` steps between two active steps belongs to the turn. A turn of fewer than
    `shortest_turn` steps is left out.
    """
    turns = np.asarray(active, bool).copy()
    for start, end in find_runs(~turns):
        if start > 0 and end < len(turns) and end - start < shortest_pause:
            turns[start:end] = True
    for start, end in find_runs(turns):
        if end - start < shortest_turn:
            turns[start:end] = False
    return turns
