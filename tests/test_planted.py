"""The demo's planted targets: the right measure finds each, and only attention to near times finds simultaneity."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from lib.core.parameters import read_yaml
from lib.core.shards import Record
from lib.core.targets import TargetGroup
from lib.model.fusions import FUSIONS
from lib.model.settings import FusionOptions
from lib.model.tokens import Tokens
from lib.scoring.bootstrap import Bootstrap
from lib.sources.demo.head import Performance
from lib.sources.demo.targets import RANGES
from lib.sources.demo.voice import SAMPLE_RATE, draw_turns, synthesise
from lib.streams import _activity, base
from lib.streams.base import Raw
from lib.streams.voice import extract
from tests.conftest import ROOT
from tests.video_files import write_talking_head
from tools.planted import behaviour, rendered, together
from tools.planted.parameters import use_parameters

CLIPS, SECONDS = 8, 3.0
GROUP = TargetGroup(columns=["speaking"], range=[0, 1], head="sigmoid", loss="mse", weight=1)


def make_extractor(name: str, **changes: Any) -> Any:
    stream = base.load(name)
    values = read_yaml(ROOT / "params.yaml")[name] | {"enabled": True} | changes
    return stream.make_extractor(stream.settings(**values))


def without_flow(faces: Record) -> Record:
    """Return the record of flow without any valid pair of frames."""
    pairs, side = len(faces.arrays["times"]) - 1, faces.arrays["faces"].shape[1]
    arrays = {"flow": np.zeros((pairs, side, side, 2), np.int8), "valid": np.zeros(pairs, np.uint8)}
    return Record(faces.clip, arrays, {"scale": 1.0})


@pytest.mark.slow
def test_rate_of_nods_is_the_measure_that_finds_them(tmp_path: Path) -> None:
    frames, align, mark = (make_extractor(name, **changes) for name, changes in (
        ("frames", {"fps": 6}), ("faces", {}), ("landmarks", {}))
    )  # fmt: skip
    measure = make_extractor("behaviour")
    rates, rows, looks = np.linspace(*RANGES["nods"], CLIPS), [], []
    for number, rate in enumerate(rates):
        path = write_talking_head(
            tmp_path / f"{number}.mp4", number, Performance(0.0, 1.0, 0.0, number, nods=rate), SECONDS
        )
        images = frames(Raw(path.name, path, None))
        faces = align(images)
        record = measure(images, faces, mark(faces), without_flow(faces))
        rows.append(dict(zip(base.read_names(record)["statistics"], record.arrays["statistics"][0], strict=True)))
        looks.append(faces.arrays["faces"].mean((0, 1, 2)))
    measured = pd.DataFrame(rows).corrwith(pd.Series(rates)).abs()
    head = measured[measured.index.str.startswith(("pitch", "yaw", "roll", "head", "nod", "shake", "face"))]
    assert head.idxmax() in ("nod.rate", "nod.number")
    assert head["nod.rate"] > 0.9
    assert np.std(looks, axis=0).max() < 12  # of 255


def measure_voices(fractions: np.ndarray) -> pd.DataFrame:
    settings = {
        name: value
        for name, value in read_yaml(ROOT / "params.yaml")["voice"].items()
        if name not in ("enabled", "activity")
    }
    rows = []
    for number, fraction in enumerate(fractions):
        rng = np.random.default_rng(number)
        gate = draw_turns(fraction, 4 * SAMPLE_RATE, rng)
        loudness = 0.5 + 0.5 * np.sin(2 * np.pi * (rng.uniform(0.4, 2) * np.arange(60) / 15 + rng.uniform()))
        samples = synthesise(loudness, 15, rng.uniform(-1, 1), rng, gate)
        rows.append(extract.describe_voice(samples.astype(float), _activity.detect_by_energy, settings)[1])
    return pd.DataFrame(rows)


@pytest.mark.slow
def test_ridge_on_voice_finds_the_fraction_of_speaking_time() -> None:
    fractions = np.random.default_rng(0).permutation(np.linspace(*RANGES["speaking"], 16))
    measured = measure_voices(fractions)
    correlations = measured.corrwith(pd.Series(fractions)).abs()
    assert correlations.idxmax() == "speech.fraction"
    assert np.abs(measured["speech.fraction"] - fractions).max() < 0.03
    clips = pd.DataFrame({"clip": measured.index, "video": measured.index, "speaking": fractions})
    clips["split"] = ["training"] * 8 + ["validation"] * 3 + ["test"] * 5
    vectors = measured.filter(regex=r"^(speech|pause)\.").dropna(axis=1)  # few clips allow few measures
    scores = behaviour.score_vectors(clips, vectors, GROUP, Bootstrap(100, 0))
    assert scores.set_index(["score", "target"]).loc[("r2", "mean"), "value"] > 0.8


def make_tokens(times: list[float], present: list[bool], seed: int) -> Tokens:
    values = torch.randn(1, len(times), 12, generator=torch.Generator().manual_seed(seed))
    return Tokens(values, torch.tensor([times]), torch.tensor([present]), (1, 1))


def test_time_slope_makes_near_tokens_get_the_attention() -> None:
    torch.manual_seed(0)
    times = [0.0, 1.0, 2.0, 3.0]
    tokens = {"a": make_tokens(times, [True] * 4, 0), "b": make_tokens(times, [True] * 3 + [False], 1)}
    fusion = FUSIONS["cross_attention"](
        dict.fromkeys("ab", 12), FusionOptions.with_defaults(heads=2, time_slope=8.0)
    ).eval()
    vectors, attention = fusion(tokens, attend=True)
    near = attention["a", "b"][0, 0]
    assert near[:3].argmax(1).tolist() == [0, 1, 2]
    assert near[:3].diagonal().min() > 0.9
    assert not attention["a", "b"][..., 3].any()  # a token that is not present
    steep, flat = fusion.get_parameter("blocks.0.a_to_b.log_slopes").exp().tolist()
    assert (steep, flat) == pytest.approx((8.0, 0.5))
    others = {
        "a": tokens["a"],
        "b": tokens["b"]._replace(values=tokens["b"].values + torch.tensor([0, 0, 0, 9.0])[:, None]),
    }
    torch.testing.assert_close(fusion(others)[0], vectors)


def test_time_slope_is_absent_by_default() -> None:
    torch.manual_seed(0)
    plain = FUSIONS["cross_attention"](dict.fromkeys("ab", 12), FusionOptions.with_defaults(heads=2))
    torch.manual_seed(0)
    sloped = FUSIONS["cross_attention"](dict.fromkeys("ab", 12), FusionOptions.with_defaults(heads=2, time_slope=1.0))
    added = sloped.state_dict().keys() - plain.state_dict().keys()
    assert {name.rpartition(".")[2] for name in added} == {"log_slopes"}
    assert all(torch.equal(values, sloped.state_dict()[name]) for name, values in plain.state_dict().items())


@pytest.mark.slow
def test_only_attention_to_near_times_finds_simultaneity() -> None:
    training, clips = together.make_planted()
    actual = clips.target.double().numpy()[:, None]
    near, plain = (together.train(name, 0, training) for name in (together.NEAR, "concat"))
    assert together.score(actual, together.predict(near, clips)) > 0.8
    assert together.score(actual, together.predict(near, clips, shifted=True)) < 0.05
    assert together.score(actual, together.predict(plain, clips)) < 0.05
    assert together.score(actual, together.predict_ridge(training, clips)) < 0.1


def test_colours_are_means_of_cells() -> None:
    images = np.zeros((2, 64, 64, 3), np.uint8)
    images[1, 8:24, 8:24, 0] = 90  # the first of the cells
    colours = rendered.average_colours(images)
    assert colours.shape == (2, 27)
    assert colours[1, 0] == pytest.approx(90)
    assert not colours[1, 1:].any()


@pytest.mark.parametrize(("name", "changes"), [("behaviour", behaviour.SETTINGS), ("demo", rendered.SETTINGS)])
def test_experiments_have_valid_parameters_and_restore_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, changes: list[str]
) -> None:
    shutil.copytree(ROOT / "params", tmp_path / "params")
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    (tmp_path / "params.yaml").write_text("original")
    monkeypatch.chdir(tmp_path)
    with use_parameters(name, changes):
        assert read_yaml(Path("params.yaml"))["model"]["targets"] == ["planted"]
    assert Path("params.yaml").read_text() == "original"
