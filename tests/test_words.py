"""tools/words.py and lib/scoring/ngrams.py on texts with planted words."""

import pickle
from pathlib import Path

import dvc.api
import numpy as np
import pandas as pd
import pytest
from dvc.utils.serialize import load_yaml

from lib.core.errors import InputError
from lib.core.targets import TRAITS
from lib.scoring.ngrams import ngram_table
from tests.conftest import ROOT
from tests.run_tool import call_main
from tools import words

COMMON_WORDS = [f"w{index:02d}" for index in range(20)]


def make_corpus() -> tuple[list[list[str]], np.ndarray, np.ndarray]:
    """400 clips of 200 videos with two targets.

    `up` raises the first target by 0.1 and lowers the second; the pair `not up` cancels this. Long clips have higher
    ratings. Only two videos contain `secret words`.
    """
    rng = np.random.default_rng(0)
    tokens, targets = [], []
    for clip in range(400):
        words = list(rng.choice(COMMON_WORDS, rng.integers(5, 20)))
        kind = rng.integers(3)
        words += [[], ["up"], ["not", "up"]][kind]
        tokens.append(words + ["secret", "words"] * (clip in (3, 7)))
        value = 0.1 * (kind == 1) + 0.02 * len(words) + rng.normal(0, 0.03)
        targets.append((value, -value))
    return tokens, np.array([f"v{clip // 2}" for clip in range(400)]), np.array(targets)


def test_ngram_table_finds_planted_words() -> None:
    table = ngram_table(*make_corpus(), ["a", "b"], 20, 1, 40, 0).set_index(["target", "ngram"]).sort_index()
    a = table.loc["a"]
    assert a["weight"].idxmax() == "up"
    assert table.loc["b", "weight"].idxmin() == "up"
    assert a["weight"].drop("up").idxmin() in ("not", "not up")
    assert a.loc["up", ["same_sign", "in_top"]].tolist() == [1, 1]
    assert 0 < a.loc["up", "low"] < a.loc["up", "weight"] < a.loc["up", "high"]
    others = a.loc[COMMON_WORDS]
    assert (others["same_sign"] < 1).mean() > 0.5
    assert others["in_top"].max() == 0
    # long clips contain more of every word; after correction for length, common words have no weight
    assert np.abs(others["weight"]).max() < 0.25 * a.loc["up", "weight"]
    assert abs(others["weight"].mean()) < 0.05 * a.loc["up", "weight"]


def test_ngram_table_omits_words_of_few_videos() -> None:
    table = ngram_table(*make_corpus(), ["a", "b"], 20, 1, 10, 0)
    assert table["videos"].min() >= 20
    assert not table["ngram"].str.contains("secret").any()
    assert table["ngram"].str.count(" ").max() == 1
    with pytest.raises(InputError, match="200 videos have words and labels; required: at least 201"):
        ngram_table(*make_corpus(), ["a", "b"], 201, 1, 10, 0)
    with pytest.raises(InputError, match="occur in at least 199 videos; required: at least 2"):
        ngram_table(*make_corpus(), ["a", "b"], 199, 1, 10, 0)


def test_ngram_table_counts_videos_not_clips() -> None:
    tokens, videos, targets = make_corpus()
    once = ngram_table(tokens, videos, targets, ["a", "b"], 20, 1, 10, 0)
    tokens, videos, targets = [*tokens, *[tokens[3]] * 30], [*videos, *[videos[3]] * 30], [*targets, *[targets[3]] * 30]
    repeated = ngram_table(tokens, np.array(videos), np.array(targets), ["a", "b"], 20, 1, 10, 0)
    assert set(repeated["ngram"]) == set(once["ngram"])


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    tokens, videos, targets = make_corpus()
    clips = [f"{video}.{index:03d}.mp4" for index, video in enumerate(videos)]
    table = pd.DataFrame({"clip": clips, "video": videos, "corpus": "fiv2", "split": "training", "reason": ""})
    for trait, sign in zip(TRAITS, (1, -1, 1, -1, 1), strict=True):
        table[trait] = 0.4 + sign * targets[:, 0] / 2
    table.loc[table.index[::4], "split"] = "test"
    folder = tmp_path / "data/raw/fiv2/annotations"
    folder.mkdir(parents=True)
    table.to_csv(tmp_path / "data/clips.csv", index=False)
    texts = {clip: " ".join(words).capitalize() + "." for clip, words in zip(clips, tokens, strict=True)}
    (folder / "transcription_training.pkl").write_bytes(pickle.dumps(texts | {clips[1]: ""}, protocol=2))
    monkeypatch.chdir(tmp_path)
    parameters = load_yaml(ROOT / "params.yaml")
    monkeypatch.setattr(dvc.api, "params_show", lambda: parameters)
    return tmp_path


def test_words_tool_uses_training_clips_with_words(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call_main(words, "--top", "2", "--resamples", "10")
    output = capsys.readouterr().out
    assert "(299 training clips)" in output
    assert "| extraversion, higher | up (100%), " in output
    assert "| agreeableness, lower | up (100%), " in output
    assert "secret" not in Path("plots/words.csv").read_text()
    assert r"extraversion & up & " in Path("plots/words.tex").read_text()
    assert min(Path(f"plots/words.{suffix}").stat().st_size for suffix in ("png", "pdf")) > 5000


@pytest.mark.parametrize(
    ("option", "value"), [("--videos", "4"), ("--top", "0"), ("--resamples", "9"), ("--seed", "-1")]
)
def test_words_tool_rejects_options_out_of_range(project: Path, option: str, value: str) -> None:
    with pytest.raises(InputError, match=rf"{option} {value}; allowed: \d+ to"):
        call_main(words, option, value)
