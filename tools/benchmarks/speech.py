"""Measure CPU seconds and memory of a clip in a speech network of the size of WavLM-base, with random weights.

First the stream speech computes hidden states of one clip. Then the encoder pretrained computes a training step on several
clips. Each row runs in a process of its own; its memory includes Python, the libraries and the weights.
"""

import argparse
import functools
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from lib.core import command, interrupts

RATE = 16_000
FOLDER_KEYS: dict[str, Any] = {"revision": None, "download": False, "allow_code": False}
STREAM_ROWS = ((15.0, 30.0), (60.0, 60.0), (60.0, 30.0), (60.0, 10.0))
"""Seconds of audio, and of the window that is computed at once."""
STEP_ROWS: tuple[tuple[int | str, bool], ...] = (
    (0, False),
    (2, False),
    (12, False),
    (12, True),
    ("lora", False),
    ("lora", True),
)
"""The keys trainable and checkpointing."""


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.benchmarks.speech",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--clips", type=int, default=4, help="clips in a training step (%(default)s)")
    parser.add_argument("--seconds", type=float, default=5.0, help="audio of each clip in a step (%(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="the fastest of these repeats counts (%(default)s)")
    options = parser.parse_args()
    with interrupts.loading():  # they take seconds to load, and --help needs none of them
        import torch

        from lib.core.device import describe_device

    print(f"WavLM-base with random weights on {describe_device(torch.device('cpu'))}\n")
    with tempfile.TemporaryDirectory() as folder:
        _run_alone(write_network, folder)
        print("| audio s | window s | CPU s a clip | peak GiB |\n|---|---|---|---|")
        for audio, window in STREAM_ROWS:
            seconds, memory = _run_alone(measure_stream, folder, audio, window, options.repeats)
            print(f"| {audio:g} | {window:g} | {seconds:.1f} | {memory:.1f} |", flush=True)
        print("\n| trainable | checkpointing | trained M | CPU s a clip | peak GiB |\n|---|---|---|---|---|")
        for trainable, checkpointing in STEP_ROWS:
            step = functools.partial(
                measure_step, clips=options.clips, seconds=options.seconds, repeats=options.repeats
            )
            trained, seconds, memory = _run_alone(step, folder, trainable, checkpointing)
            print(
                f"| {trainable} | {str(checkpointing).lower()} | {trained / 1e6:.1f} | {seconds:.1f} | {memory:.1f} |",
                flush=True,
            )


def write_network(folder: str) -> None:
    """Write a randomly initialised WavLM-base and its feature extractor."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.WavLMModel(transformers.WavLMConfig()).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(sampling_rate=RATE).save_pretrained(folder)


def measure_stream(folder: str, audio: float, window: float, repeats: int) -> tuple[float, float]:
    """Return the CPU seconds of the stream speech for a clip of `audio` seconds, and the peak memory in GiB."""
    import numpy as np

    from lib.streams import speech

    settings = speech.Settings(enabled=True, network=folder, layers="mean", rate=2.0, window=window, **FOLDER_KEYS)
    extractor: Any = speech.make_extractor(settings)
    samples = np.random.default_rng(0).normal(0, 0.1, round(audio * RATE)).astype(np.float32)
    seconds = _time_fastest(lambda: speech.compute_hidden_states(extractor.args[0], samples, window), repeats)
    return seconds, _peak_memory()


def measure_step(
    folder: str, trainable: Any, checkpointing: bool, clips: int, seconds: float, repeats: int
) -> tuple[int, float, float]:
    """Return the encoder's number of trained parameters, the CPU seconds of a step per clip, and the peak memory in GiB."""
    import torch

    from lib.model.encoders import pretrained
    from lib.streams.base import Steps
    from lib.streams.waveform import CHUNK

    settings = pretrained.Settings(
        kind="pretrained", reads=["waveform"], take="all", steps=1, network=folder, layers="all", weights="pretrained",
        trainable=trainable, rank=8, alpha=16.0, checkpointing=checkpointing, tokens="steps", **FOLDER_KEYS,
    )  # fmt: skip
    encoder = pretrained.Encoder(settings, [[round(CHUNK * RATE)]]).train()
    trained = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5)
    chunks = round(seconds / CHUNK)
    steps = Steps(
        torch.randn(clips, chunks, round(CHUNK * RATE)), torch.arange(chunks).expand(clips, -1) * CHUNK,
        torch.ones(clips, chunks, dtype=torch.bool),
    )  # fmt: skip

    def step() -> None:
        encoder({"waveform": steps}).values.square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    return sum(parameter.numel() for parameter in trained), _time_fastest(step, repeats) / clips, _peak_memory()


def _time_fastest(run: Callable[[], Any], repeats: int) -> float:
    """Return the CPU seconds of the fastest of several runs."""
    times = []
    for _ in range(repeats):
        started = time.process_time()
        run()
        times.append(time.process_time() - started)
    return min(times)


def _peak_memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _run_alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return the function's result, computed in a new process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


if __name__ == "__main__":
    command.run(main)
