"""Text vectors: where transcripts are found, what each kind contains, and unusual texts."""

import importlib.util
import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import r2_score

from lib.core.errors import InputError
from lib.core.shards import Record
from lib.scoring import baselines
from lib.sources.demo import corpus
from lib.streams import base, text
from lib.streams.base import Raw
from lib.streams.text import transcripts, vectors
from lib.streams.text.transcripts import Cue, Transcript
from lib.streams.text.vectors import COUNTS
from tests.conftest import REAL, needs_real_clips

CLIP = "-x y.000.mp4"
GREETING = "Hi! I'm here, um, and you know what? We don't sing."


def extract(folder: Path, clip: str = CLIP, files: Sequence[str] = ("transcription_*.pkl",), **changes: Any) -> Record:
    settings = make_settings(files=list(files), **changes)
    return text.Extractor(settings)(Raw(clip, None, folder))


def make_settings(**changes: Any) -> text.Settings:
    values = {"enabled": True, "column": "text", "kinds": ["hashing", "counts"], "dimension": 64, "sentence": None}
    network = {"network": "none", "revision": None, "download": False, "allow_code": False, "layers": "last"}
    return text.Settings(**values | network | changes)


def count(words: str, **options: Any) -> dict[str, float]:
    return dict(zip(COUNTS, vectors.compute_counts(Transcript(words, **options)).tolist(), strict=True))


def write_pickle(path: Path, texts: dict[Any, Any]) -> None:
    path.write_bytes(pickle.dumps(texts, protocol=2))


def test_counts_equal_values_by_hand() -> None:
    counts = count(GREETING, seconds=5.0)
    assert counts == pytest.approx(
        dict.fromkeys(COUNTS, 0)
        | {"words": 11, "characters": 36, "characters_a_word": 36 / 11, "types_a_word": 1, "words_a_second": 2.2}
        | {"sentences": 3, "words_a_sentence": 11 / 3, "question_marks": 1, "exclamation_marks": 1, "commas": 2}
        | {"fillers": 2, "negations": 1, "contractions": 2, "first_person_singular": 1, "first_person_plural": 1}
        | {"second_person": 1}
    )
    assert count("[inaudible 00:00:15] Yes yes 42 understand [crosstalk 00:00:30]") | {"sentences": 1} == pytest.approx(
        dict.fromkeys(COUNTS, 0)
        | {
            "words": 4,
            "characters": 18,
            "characters_a_word": 4.5,
            "long_words": 1,
            "types_a_word": 0.75,
            "sentences": 1,
        }
        | {"words_a_sentence": 4, "words_a_second": 4 / 15, "numbers": 1, "unclear": 2}
    )
    assert count("I’ve")["contractions"] == count("I've")["contractions"] == 1  # typographic apostrophes


def test_hashing_ignores_case_marks_and_times() -> None:
    make = vectors.make_hasher(128)
    first, second = make(Transcript("A cat sat there.")), make(Transcript("The dog barks"))
    assert first.shape == (128,)
    assert np.linalg.norm(first[:64]) == pytest.approx(1)
    assert np.linalg.norm(first[64:]) == pytest.approx(1)
    assert abs(first - second).max() > 0.1
    np.testing.assert_array_equal(first, make(Transcript("a CAT sat [inaudible 00:00:15] there.")))
    assert (make(Transcript("a b"))[:64] != make(Transcript("b a"))[:64]).any()  # pairs of words depend on order


def test_missing_kind_of_text_vectors_has_length_zero() -> None:
    stream = base.load("text")
    record = Record(CLIP, {"counts": np.ones((1, 20), np.float32)})
    assert stream.read(record, np.array([0]), "counts").shape == (1, 20)
    assert stream.read(record, np.array([0]), "hashing").shape == (1, 0)
    assert base.pool_steps(stream, record, False).shape == (20,)


def test_texts_are_found_by_clip_in_pickles_and_tables(tmp_path: Path) -> None:
    write_pickle(
        tmp_path / "transcription_training.pkl",
        {CLIP: GREETING, "empty.mp4": "", "marks.mp4": "[inaudible] ...", "n": None},
    )
    write_pickle(tmp_path / "transcription_test.pkl", {b"bytes.mp4": b"four words of bytes"})
    record = extract(tmp_path)
    assert json.loads(record.attributes["parts"]) == {"hashing": 64, "counts": 20}
    assert record.attributes["words"] == 11
    assert record.arrays["hashing"].dtype == np.float32
    np.testing.assert_array_equal(record.arrays["counts"][0], vectors.compute_counts(Transcript(GREETING)))
    assert extract(tmp_path, "bytes.mp4").attributes["words"] == 4
    for clip in ("empty.mp4", "marks.mp4", "n"):
        assert extract(tmp_path, clip).rejected == "text: without words"
    assert extract(tmp_path, "lost.mp4").rejected == "text: not in transcription_*.pkl, .srt, .vtt, .txt"
    rows = pd.DataFrame({"file": ["a/b.mp4", "NA"], "said": ["two words", None], "warm": [1, 2]})
    rows.to_csv(tmp_path / "clips.csv", index=False)
    rows.to_parquet(tmp_path / "clips.parquet", index=False)
    for table in ("clips.csv", "clips.parquet"):
        assert extract(tmp_path, "a_b.mp4", [table], column="said").attributes["words"] == 2
        assert extract(tmp_path, "NA", [table], column="said").rejected == "text: without words"


def test_subtitles_are_read_without_times_and_tags(tmp_path: Path) -> None:
    srt = "1\n00:00:01,000 --> 00:00:02,500\n<i>Hello</i>\nthere\n\n2\n00:00:03,000 --> 00:00:05,000\n42 {\\an8}times\n"
    vtt = "WEBVTT\n\nNOTE not said\n\nintro\n00:01.000 --> 00:02.500 align:start\nHello\nthere\n"
    vtt += "\n00:03.000 --> 00:05.000\n42 times\n"
    for subtitles in (srt, srt.replace("\n", "\r\n"), vtt):
        assert " ".join(transcripts.read_subtitles(subtitles).text.split()) == "Hello there 42 times"
        assert transcripts.read_subtitles(subtitles).seconds == 4
    assert transcripts.read_subtitles("") == Transcript("")
    assert transcripts.read_subtitles(srt).cues == (Cue("Hello there", 1.0, 2.5), Cue("42 times", 3.0, 5.0))
    assert transcripts.read_subtitles(srt, (2.5, 9.0)) == Transcript("42 times", 2.0, (Cue("42 times", 0.5, 2.5),))
    assert transcripts.read_subtitles(srt, (0.0, 1.7)) == Transcript("")
    (tmp_path / "a.srt").write_text(srt)
    (tmp_path / "b.txt").write_bytes("caf\xe9 au lait".encode("latin-1"))
    counts = dict(zip(COUNTS, extract(tmp_path, "a.mp4", []).arrays["counts"][0], strict=True))
    assert (counts["words"], counts["words_a_second"]) == (4, 1)
    assert extract(tmp_path, "b.mp4", []).attributes["words"] == 3
    assert extract(tmp_path, "c.mp4", []).rejected == "text: not in .srt, .vtt, .txt"
    outside = transcripts.look_up(
        Raw("a.mp4", tmp_path / "a.mp4", None), ["transcription_*.pkl"], "text"
    )  # prediction has no folder of annotations
    assert outside is not None
    assert outside.seconds == 4
    part = Raw("a_7.mp4", tmp_path / "a.mp4", tmp_path, (2.8, 9.0))  # a segment of a longer video, as in CMU-MOSEI
    spoken = Transcript("42 times", 2.0, (Cue("42 times", pytest.approx(0.2), pytest.approx(2.2)),))
    assert transcripts.look_up(part, [], "text") == spoken
    assert transcripts.look_up(part._replace(clip="a.mp4"), [], "text") == spoken  # a window of a long clip
    assert transcripts.look_up(Raw("b_7.mp4", tmp_path / "b.mp4", tmp_path, (2.8, 9.0)), [], "text") is None
    settings = make_settings(files=[], kinds=["counts"])
    assert [path.name for path in text.annotation_files(settings, tmp_path)] == ["a.srt", "b.txt"]


@pytest.mark.parametrize(
    "words",
    [
        "yes",
        "Привет, как дела?",
        "你好世界。你好！",
        "مرحبا بكم",
        "a " * 10_000,
        "x" * 10_000,
        "e\u0301\u200d🙂 hm",
    ],
)
def test_unusual_texts_give_finite_vectors(tmp_path: Path, words: str) -> None:
    write_pickle(tmp_path / "transcription_training.pkl", {CLIP: words})
    record = extract(tmp_path)
    assert not record.rejected
    for kind in ("hashing", "counts"):
        assert np.isfinite(record.arrays[kind]).all()
        assert record.arrays[kind].any()


def test_empty_text_gives_zero_vectors() -> None:
    assert np.isfinite(vectors.compute_counts(Transcript(""))).all()
    assert not vectors.make_hasher(8)(Transcript("")).any()
    assert np.isfinite(vectors.make_hasher(8)(Transcript("half a character \ud800"))).all()


def test_text_settings_and_files_are_validated(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"text\.files has 'transcription_\*\.pkl', which matches no file .* there: none"
    ):
        extract(tmp_path)
    (tmp_path / "evil.pkl").write_bytes(b"cos\nsystem\n(S'echo'\ntR.")
    with pytest.raises(InputError, match=r"asks for os\.system; allowed: numpy scalars"):
        extract(tmp_path, files=["evil.pkl"])
    write_pickle(tmp_path / "scores.pkl", {CLIP: {"openness": 0.5}})
    with pytest.raises(InputError, match=r"scores\.pkl is not a \{clip: text\} dictionary"):
        extract(tmp_path, files=["scores.pkl"])
    (tmp_path / "of.csv").write_text("clip,words\na,b\n")
    with pytest.raises(InputError, match=r"of\.csv has the columns clip, words; required: 'text' \(text\.column"):
        extract(tmp_path, files=["of.csv"])
    (tmp_path / "twice.csv").write_text("clip,text\na,b\na,c\n")
    with pytest.raises(InputError, match=r"twice\.csv has clip a twice"):
        extract(tmp_path, files=["twice.csv"])
    (tmp_path / "of.npz").touch()
    with pytest.raises(
        InputError, match=r"text\.files matches of\.npz; allowed: files that end in \.pkl, \.csv or \.parquet"
    ):
        extract(tmp_path, files=["of.npz"])
    with pytest.raises(ValueError, match="each once"):
        extract(tmp_path, kinds=["counts", "counts"])
    with pytest.raises(InputError, match=r"requirements-text\.txt|'/nowhere' is not a folder"):
        extract(tmp_path, kinds=["sentence"], sentence="/nowhere")


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("all_minilm_l6_v2") is None, reason="requirements-text.txt is not installed"
)
def test_sentence_vectors_of_similar_texts_are_close(tmp_path: Path) -> None:
    texts = {
        "a": "The film was great.",
        "b": "I loved that movie!",
        "c": "Peel two potatoes.",
        "long": "great film " * 5000,
    }
    write_pickle(tmp_path / "transcription_training.pkl", texts)
    vectors = {clip: extract(tmp_path, clip, kinds=["sentence"]).arrays["sentence"][0] for clip in texts}
    assert {vector.shape for vector in vectors.values()} == {(384,)}
    assert np.linalg.norm(vectors["a"]) == pytest.approx(1, abs=1e-5)
    assert vectors["a"] @ vectors["b"] > vectors["a"] @ vectors["c"] + 0.2
    assert vectors["a"] @ vectors["long"] > vectors["a"] @ vectors["c"]
    extractor = text.Extractor(make_settings(files=["transcription_*.pkl"], kinds=["sentence"]))
    together = extractor.extract_clips([(Raw(clip, None, tmp_path),) for clip in texts])
    for record in together:  # batches change only the rounding
        assert record.arrays["sentence"][0] == pytest.approx(vectors[record.clip], abs=1e-5)


def test_demo_texts_predict_extraversion_only() -> None:
    plan = corpus.plan(600, 0.0, seed=0)
    make = vectors.make_hasher(64)
    hashed = np.array([make(Transcript(corpus.transcript(row))) for _, row in plan.iterrows()])
    columns = ["extraversion", "conscientiousness", "neuroticism", "openness"]
    labelled = plan.reset_index()
    parts = [labelled[labelled["split"] == split] for split in ("training", "test", "validation")]
    predicted = baselines.predict(*parts, columns, {"text": pd.DataFrame(hashed, plan.index)})["ridge_text"]
    r2 = dict(zip(columns, r2_score(parts[1][columns], predicted, multioutput="raw_values"), strict=True))
    assert r2.pop("extraversion") > 0.4
    assert max(r2.values()) < 0.05


@pytest.mark.slow
@needs_real_clips
def test_real_transcripts_are_read() -> None:
    rejected = [
        record.rejected
        for split in ("training", "validation")
        for clip in transcripts.read_texts(REAL / f"transcription_{split}.pkl", "text")
        if (record := extract(REAL, clip, kinds=["counts"])).rejected
    ]
    assert set(rejected) == {"text: without words"}
    assert 8 <= len(rejected) <= 20
