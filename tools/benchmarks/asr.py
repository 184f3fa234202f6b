"""Measure the word error rate of a Whisper network on sentences that eSpeak NG speaks.

The sentences are the first ten Harvard sentences (IEEE 1969, Recommended practice for speech quality measurements). Words
are compared without case and punctuation. The word error rate is the number of substituted, deleted and inserted words over
the number of spoken words. Synthetic voices differ from people: compare networks and settings, not persons.
"""

import argparse
import time
from typing import TYPE_CHECKING, Any

from lib.core import command, interrupts
from lib.core.errors import InputError

if TYPE_CHECKING:  # --help needs no array
    import numpy as np

SENTENCES = (
    "The birch canoe slid on the smooth planks.",
    "Glue the sheet to the dark blue background.",
    "It's easy to tell the depth of a well.",
    "These days a chicken leg is a rare dish.",
    "Rice is often served in round bowls.",
    "The juice of lemons makes fine punch.",
    "The box was thrown beside the parked truck.",
    "The hogs were fed chopped corn and garbage.",
    "Four hours of steady work faced us.",
    "A large size in stockings is hard to sell.",
)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.benchmarks.asr",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("network", help="folder of a Whisper network for CTranslate2, or its name on the hub")
    parser.add_argument("--language", default="en", help="code of the language, or auto to detect it (%(default)s)")
    parser.add_argument("--beam", type=int, default=5, help="number of hypotheses of the beam search (%(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (%(default)s)")
    parser.add_argument("--compute-type", default="default", help="number format of the weights (%(default)s)")
    options = parser.parse_args()
    with interrupts.loading():  # they take seconds to load, and --help needs none of them
        from tqdm import tqdm

        from lib.core import parameters
        from lib.streams.text import recognition as asr

    values = {
        "asr": "faster-whisper", "asr_network": options.network, "asr_beam_size": options.beam,
        "asr_language": None if options.language == "auto" else options.language, "asr_device": options.device,
        "asr_compute_type": options.compute_type,
    }  # fmt: skip
    settings = parameters.check(values, asr.RecognitionSettings, "text")
    model = asr.load_model(settings, asr.find_network_folder(settings, download=False))
    audio = speak_sentences()
    started = time.process_time()
    heard = [
        asr.recognise_words(model, samples, settings).text for samples in tqdm(audio, unit="sentence", disable=None)
    ]
    seconds = time.process_time() - started
    print(describe(list(SENTENCES), heard))
    print(f"{sum(map(len, audio)) / asr.RATE:.1f} s of audio in {seconds:.1f} CPU s")


def speak_sentences() -> "list[np.ndarray]":
    """Return the audio samples (N,) of each sentence at RATE."""
    from scipy.signal import resample_poly

    from lib.streams.text.recognition import RATE
    from tools.benchmarks._espeak import load_speaker

    speaker = load_speaker()
    return [resample_poly(speaker.speak(text), RATE, speaker.sample_rate).astype("float32") for text in SENTENCES]


def describe(spoken: list[str], heard: list[str]) -> str:
    """Return the word error rate of sentences, with the numbers of errors, as a line of text."""
    counts = count_errors(spoken, heard)
    return (
        f"word error rate {counts.wer:.3f}: {counts.substitutions} substituted, {counts.deletions} deleted and"
        f" {counts.insertions} inserted words; {sum(len(words) for words in counts.references)} spoken words in"
        f" {len(spoken)} sentences"
    )


def count_errors(spoken: list[str], heard: list[str]) -> Any:
    """Return the errors as a jiwer.WordOutput. Raises InputError if jiwer is missing."""
    from lib.streams.text.vectors import split_words

    try:
        import jiwer
    except ImportError:
        raise InputError(
            "the package jiwer is not installed; required: it counts word errors; run `pip install -r requirements-asr.txt`"
        ) from None
    references, hypotheses = ([" ".join(split_words(text)) for text in texts] for texts in (spoken, heard))
    return jiwer.process_words(references, hypotheses)


if __name__ == "__main__":
    command.run(main)
