"""The voice of the demo's talking head: a harmonic tone with a planted glide and, if asked for, planted turns."""

import numpy as np

SAMPLE_RATE = 16_000

_PITCH_RANGE = 130.0, 170.0  # Hz
_SHORTEST_PAUSE = 0.35  # seconds; the stream `voice` joins turns with shorter gaps
_MOST_TURNS = 3
_RAMP = 0.01  # seconds in which a turn begins and ends


def synthesise(
    loudness: np.ndarray, fps: int, glide: float, rng: np.random.Generator, gate: np.ndarray | None = None
) -> np.ndarray:
    """Return a harmonic tone of 130 to 170 Hz whose pitch glides by `glide` octaves, plus up to a tenth with loudness.

    loudness: (T,) at `fps`. gate: (samples,) in [0, 1], the tone's factor, or None for a voice without pauses. The result is
    float32 in [-1, 1] at SAMPLE_RATE.
    """
    mean = rng.uniform(*_PITCH_RANGE)
    times = np.arange(len(loudness) * SAMPLE_RATE // fps) / SAMPLE_RATE
    loud = np.interp(times, np.arange(len(loudness)) / fps, loudness)
    pitch = mean * 2 ** (glide * (times / times[-1] - 0.5))
    phase = 2 * np.pi * np.cumsum(pitch * (1 + 0.1 * loud)) / SAMPLE_RATE
    tone = sum(np.sin(harmonic * phase) / harmonic for harmonic in range(1, 6)) / 3
    if gate is not None:
        tone = tone * gate
    return ((0.1 + 0.6 * loud) * tone + rng.normal(0, 0.005, len(times))).clip(-1, 1).astype(np.float32)


def draw_turns(fraction: float, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Return a gate (samples,) in [0, 1] that is open for this fraction of the time, in up to three turns.

    The number of turns, their lengths and the pauses are random. Pauses between turns last at least 0.35 s.
    """
    seconds = samples / SAMPLE_RATE
    silence = (1 - fraction) * seconds
    turns = int(rng.integers(1, 2 + min(_MOST_TURNS - 1, int(silence / _SHORTEST_PAUSE))))
    lengths = fraction * seconds * (0.5 / turns + 0.5 * rng.dirichlet(np.ones(turns)))
    pauses = (silence - _SHORTEST_PAUSE * (turns - 1)) * rng.dirichlet(np.ones(turns + 1))
    pauses[1:-1] += _SHORTEST_PAUSE
    edges = np.cumsum(np.ravel(np.column_stack([pauses[:-1], lengths])))
    times = np.arange(samples) / SAMPLE_RATE
    distance = [np.minimum(times - start, end - times) for start, end in edges.reshape(-1, 2)]
    return np.clip(0.5 + np.max(distance, axis=0) / _RAMP, 0, 1)
