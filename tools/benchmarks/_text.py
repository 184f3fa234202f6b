"""The measurements of tools.benchmarks.text."""

import argparse
import time
from collections.abc import Callable, Iterable

import numpy as np

from lib.core.errors import InputError
from lib.core.shards import Record
from lib.streams import text
from lib.streams._extraction import extract_all, extract_clip
from lib.streams.base import Raw
from lib.streams.text.transcripts import read_texts
from tools.parameters import merge_parameters, plain


def run(arguments: argparse.Namespace) -> None:
    """Measure, and print the tables."""
    if not arguments.transcripts.is_file():
        raise InputError(f"{arguments.transcripts} is not a file; allowed: a pickle {{clip: text}}; correct the path")
    clips = list(read_texts(arguments.transcripts, ""))[: arguments.clips]
    folder = arguments.transcripts.parent
    kind = "transformer" if arguments.network else "sentence"
    changes = ["text.enabled=true", f"text.kinds=[{kind}]"]
    changes += [f"text.network={arguments.network}"] if arguments.network else []
    section = plain(merge_parameters("demo", changes))["text"] | {"files": [arguments.transcripts.name]}
    extractor = text.Extractor(text.Settings(**section))
    inputs = [(Raw(clip, None, folder),) for clip in clips]
    extract_clip(extractor, [*inputs[0]])  # the first clip loads packages
    single, alone = measure(lambda: [extract_clip(extractor, [raw]) for (raw,) in inputs])
    batched, together = measure(lambda: extract_all(extractor, inputs))
    difference = max(
        float(np.abs(record.arrays[kind] - other.arrays[kind]).max())
        for record, other in zip(alone, together, strict=True)
        if not record.rejected
    )
    print(f"{len(clips)} transcripts; CPU seconds per clip: {single / len(clips):.4f} one by one,")
    print(f"{batched / len(clips):.4f} in batches; largest difference of the vectors {difference:.1e}")


def measure(run: Callable[[], Iterable[Record]]) -> tuple[float, list[Record]]:
    """Return CPU seconds and the records."""
    started = time.process_time()
    records = list(run())
    return time.process_time() - started, records
