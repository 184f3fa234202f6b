"""Linear paths, several networks, and fusion `stacked`, compared with the functions that fit baselines; cached shards."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from lightning_fabric import Fabric

from lib.core import shards
from lib.core.errors import InputError, SettingError
from lib.core.parameters import check
from lib.core.shards import Record
from lib.core.targets import TargetGroup
from lib.data import dataset
from lib.data.dataset import ClipDataset
from lib.data.shard_cache import read_cached
from lib.model import checkpoint, folder, infer
from lib.model.committee import Committee
from lib.model.encoders import vectors
from lib.model.network import Network
from lib.model.settings import Settings
from lib.model.stack import Stack, pool_inputs
from lib.regression import ridge as ridge_regression
from lib.regression import stacking, trees
from lib.serving import export
from lib.streams.base import Steps, StreamInfo
from lib.training import regressions, run
from lib.training.committee import train_committee
from lib.training.prepare import TrainingJob
from lib.training.settings import Parameters, Train
from tests.small_network import TRAIN_SETTINGS

CPU = torch.device("cpu")
COUNT, SIZES = 90, {"one": 3, "two": 2}
STREAMS = {"features": StreamInfo({"enabled": True, "files": ["one.csv", "two.csv"]}, {"": [5]})}
GROUP = TargetGroup(columns=["warm", "cold"], range=[1, 7], head="sigmoid", loss="mse", weight=1.0)
ENCODER: dict[str, Any] = {
    "kind": "vectors", "reads": ["features"], "take": "all", "steps": 1, "net": "mlp", "width": 12, "depth": 1,
    "dropout": 0.0, "pool": 1,
}  # fmt: skip


def make_job(model: dict[str, Any], train: dict[str, Any], group: TargetGroup = GROUP) -> TrainingJob:
    """Write a corpus of one-vector clips to data/, two clips for each video, and return a job.

    Labels depend on numbers 0 and 3, and on the square of number 1.
    """
    rng = np.random.default_rng(0)
    values = rng.normal(size=(COUNT, 5)).astype(np.float32)
    values[4] = 0.0
    values[7, 2] = 400.0
    labels = 4 + values[:, [0, 3]] * [0.5, -0.4] + 0.3 * values[:, [1]] ** 2 + rng.normal(0, 0.1, (COUNT, 2))
    table = pd.DataFrame(labels.clip(1, 7), columns=GROUP.columns)
    table = table.assign(clip=[f"c{i}.mp4" for i in range(COUNT)], video=[f"v{i // 2}" for i in range(COUNT)])
    table = table.assign(shard="all", corpus="demo")
    Path("data/features").mkdir(parents=True, exist_ok=True)
    with h5py.File("data/features/all.h5", "w") as file:
        for clip, row in zip(table["clip"], values, strict=True):
            arrays = {"values": row[None], "times": np.zeros(1)}
            shards.write_record(file, Record(clip, arrays, {"parts": json.dumps(SIZES)}))
    settings = {
        "use": ["features"],
        "fusion": "concat",
        "queries": [],
        "targets": ["own"],
        "missing": "keep",
        "width": 12,
    }
    settings |= {"heads": 2, "depth": 1, "dropout": 0.0, "hidden": 0, "encoders": {"features": ENCODER}}
    sections = Parameters(
        model=Settings(**(settings | model)), targets={"own": group}, train=Train(**TRAIN_SETTINGS | train)
    )
    return TrainingJob(sections, {"own": group}, STREAMS, table[:70], table[70:].reset_index(drop=True))


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., TrainingJob]:
    monkeypatch.chdir(tmp_path)
    return lambda group=GROUP, train=None, **model: make_job(model, train or {}, group)


def train(job: TrainingJob) -> checkpoint.TrainedModel:
    assert run.train_model(job, Path("work"))
    return checkpoint.load(Path("work/model.pt"), CPU)


def predict(model: Any, job: TrainingJob) -> np.ndarray:
    clips = ClipDataset(job.validation, Path("data"), model.settings_by_encoder, STREAMS, {})
    return infer.predict(Fabric(accelerator="cpu", devices=1), model, clips, 8, 0)["own"]


def test_stack_predicts_as_its_out_of_fold_functions() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(120, 6)).astype(np.float32)
    values[3:9, :4] = np.nan  # these clips lack the first part
    values[20, 5] = np.nan
    labels = np.nan_to_num(values[:, :2]) + np.abs(np.nan_to_num(values[:, 4:])) + rng.normal(0, 0.1, (120, 2))
    labels[:15, 1] = np.nan
    parts = {"one": np.arange(4), "two": np.array([4, 5])}
    others = np.nan_to_num(labels) + rng.normal(0, 0.5, (120, 2))
    videos = np.arange(120) // 2
    fitted = regressions.fit_stack(regressions.Numbers(values, parts), labels, videos, trees=True, others=others)
    assert fitted.names == ["one", "two", "trees", "network"]
    assert (fitted.weights >= 0).all()
    stack = Stack()
    stack.set(**fitted.tensors)
    loaded = Stack()
    loaded.load_state_dict(stack.state_dict())
    predicted = loaded(torch.from_numpy(values), torch.from_numpy(others).float()).numpy()

    folds = ridge_regression.assign_folds(videos)
    outside, inside = [], []
    for positions in parts.values():
        inputs = values[:, positions].astype(float)
        present = ~np.isnan(inputs).all(1)
        out_of_fold, penalty = ridge_regression.choose_penalty(inputs, labels, folds)
        predicted_part = np.full(labels.shape, np.nan)
        predicted_part[present] = ridge_regression.predict_ridges(
            inputs[present], labels[present], inputs[present], np.array([penalty])
        )[0]
        outside.append(out_of_fold)
        inside.append(ridge_regression.fill_with_mean(predicted_part, labels))
    out_of_fold, models = trees.fit_trees(values.astype(float), labels, folds)
    weights = stacking.fit_weights(np.stack([*outside, out_of_fold, others]), labels)
    expected = weights.combine(np.stack([*inside, trees.predict_trees(models, values.astype(float)), others]))
    np.testing.assert_allclose(predicted, expected, atol=1e-4)

    inputs = [values[:, positions].astype(float) for positions in parts.values()]
    deployed = stacking.fit_parts(inputs, labels, folds, trees=True).predict(inputs)
    np.testing.assert_allclose(predicted, weights.combine(np.stack([*deployed, others])), atol=1e-4)


def test_network_with_a_linear_path_begins_as_ridge(make: Callable[..., TrainingJob]) -> None:
    group = GROUP.model_copy(update={"head": "linear"})
    job = make(group, linear_path=True)
    network = run.build_network(job)
    numbers = regressions.read_numbers(job.training, network.settings_by_encoder, STREAMS)
    assert list(numbers.parts) == ["features.one", "features.two"]
    assert [len(positions) for positions in numbers.parts.values()] == [3, 2]  # no deviations over time
    labels = group.to_unit(job.training[group.columns].to_numpy())
    fitted = regressions.fit_stack(numbers, labels, job.training["video"].to_numpy())
    stack = Stack()
    stack.set(**fitted.tensors)
    expected = stack(
        torch.from_numpy(regressions.read_numbers(job.validation, network.settings_by_encoder, STREAMS).values)
    )
    np.testing.assert_allclose(predict(network, job), expected.numpy(), atol=1e-5)


def test_linear_path_is_kept_if_training_only_harms(make: Callable[..., TrainingJob]) -> None:
    job = make(linear_path=True, train={"learning_rate": {"default": 0.5}, "epochs": 2, "warmup": 0})
    initial = run.build_network(job)
    trained = train(job)
    np.testing.assert_allclose(predict(trained.network, job), predict(initial, job), atol=1e-6)
    summary = json.loads(Path("work/train.json").read_text())
    assert summary["best_epoch"] == 0
    history = pd.read_csv("work/history.csv")
    assert summary["validation_loss"] == history["initial_validation_loss"].iat[0] < history["validation_loss"].min()


def test_members_differ_by_seed_and_predict_their_mean(make: Callable[..., TrainingJob]) -> None:
    job = make(members=2, train={"epochs": 2})
    model = train(job).network
    assert isinstance(model, Committee)
    alone = []
    for seed in (1, 2):
        sections = job.sections.model_copy(update={"train": Train(**TRAIN_SETTINGS | {"seed": seed, "epochs": 2})})
        model_settings = sections.model.model_copy(update={"members": 1})
        one = replace(job, sections=sections.model_copy(update={"model": model_settings}))
        run.train_model(one, Path(f"seed{seed}"))
        alone.append(predict(checkpoint.load(Path(f"seed{seed}/model.pt"), CPU).network, job))
    assert not np.allclose(*alone, atol=1e-5)
    np.testing.assert_allclose(predict(model, job), np.mean(alone, 0), atol=1e-6)


@pytest.fixture
def stacked(make: Callable[..., TrainingJob]) -> tuple[TrainingJob, checkpoint.TrainedModel]:
    job = make(fusion="stacked", linear_path=True, train={"epochs": 2})
    return job, train(job)


@pytest.mark.slow
def test_stacked_model_saves_publishes_exports_and_helps(stacked: tuple[TrainingJob, checkpoint.TrainedModel]) -> None:
    job, trained = stacked
    predicted = predict(trained.network, job)
    labels = GROUP.to_unit(job.validation[GROUP.columns].to_numpy())
    mean = GROUP.to_unit(job.training[GROUP.columns].to_numpy()).mean(0)
    assert np.square(predicted - labels).mean() < 0.5 * np.square(mean - labels).mean()
    assert np.isfinite(trained.training.references["own"].half_widths.numpy()).all()
    summary = json.loads(Path("work/train.json").read_text())
    weights = [value for key, value in summary.items() if key.startswith("weight_own.")]
    assert len(weights) == 4
    assert min(weights) >= 0
    Path("published").mkdir()
    folder.write(checkpoint.read(Path("work/model.pt")), Path("published"))
    published = checkpoint.load(Path("published"), CPU)
    np.testing.assert_array_equal(predict(published.network, job), predicted)
    clip = {
        "features": {"features": Steps(torch.randn(1, 1, 5), torch.zeros(1, 1), torch.ones(1, 1, dtype=torch.bool))}
    }
    window = export.Window(trained.network, {"own": GROUP}, clip)
    parts = window.parts(clip)
    assert parts is not None
    program = export.export_program(window, parts).module()
    torch.testing.assert_close(program(*parts), window(*parts))


@pytest.mark.slow
def test_clips_without_a_stream_get_a_finite_prediction(stacked: tuple[TrainingJob, checkpoint.TrainedModel]) -> None:
    nothing = Steps(torch.zeros(1, 1, 5), torch.zeros(1, 1), torch.zeros(1, 1, dtype=torch.bool))
    predicted = stacked[1].network({"features": {"features": nothing}}).predicted["own"]
    assert ((predicted > 0) & (predicted < 1)).all()


def test_pooled_numbers_ignore_missing_steps_and_numbers() -> None:
    values = torch.tensor([[[1.0, torch.nan], [3.0, 5.0], [100.0, 100.0]], [[2.0, torch.nan]] * 3])
    present = torch.tensor([[True, True, False], [True, True, True]])
    pooled = pool_inputs({"a": {"features": Steps(values, torch.zeros(2, 3), present)}}, ["a"])
    torch.testing.assert_close(pooled[0], torch.tensor([2.0, 5.0, 1.0, 0.0]))
    torch.testing.assert_close(pooled[1], torch.tensor([2.0, torch.nan, 0.0, torch.nan]), equal_nan=True)


def test_winsorised_inputs_are_limited_by_training_quantiles() -> None:
    settings = check(ENCODER | {"winsorise": 0.05, "net": "linear"}, vectors.Settings)
    encoder = vectors.Encoder(settings, [[2]])
    values = np.stack([np.arange(101.0), np.arange(101.0)], 1).astype(np.float32)
    clips = [{"features": Steps(row[None], np.zeros(1), np.ones(1, bool))} for row in values]
    clips[100]["features"].values[0, 1] = 1e6
    encoder.standardise(clips)
    np.testing.assert_allclose(encoder.low.numpy(), [5, 5])
    np.testing.assert_allclose(encoder.high.numpy(), [95, 95])
    clipped = values.clip(5, 95)
    np.testing.assert_allclose(encoder.std.numpy(), clipped.std(0), rtol=1e-5)

    def tokens(number: float) -> torch.Tensor:
        steps = Steps(torch.full((1, 1, 2), number), torch.zeros(1, 1), torch.ones(1, 1, dtype=torch.bool))
        return encoder({"features": steps}).values

    assert torch.equal(tokens(1e9), tokens(95))
    assert not torch.equal(tokens(94), tokens(95))


def test_mask_tells_missing_numbers_from_their_mean() -> None:
    def spread(mask: bool) -> float:
        torch.manual_seed(0)
        encoder = vectors.Encoder(check(ENCODER | {"mask": mask}, vectors.Settings), [[1]])  # mean 0
        steps = (
            Steps(torch.tensor([[[value]]]), torch.zeros(1, 1), torch.ones(1, 1, dtype=torch.bool))
            for value in (0, torch.nan)
        )
        mean, missing = (encoder({"features": step}).values for step in steps)
        return (mean - missing).abs().max().item()

    assert spread(mask=False) == 0
    assert spread(mask=True) > 0.01


def test_settings_that_do_not_fit_are_rejected(make: Callable[..., TrainingJob]) -> None:
    job = make(fusion="stacked")
    binary = GROUP.model_copy(update={"head": "binary", "loss": "bce"})
    with pytest.raises(
        SettingError, match=r"targets\.own\.head = 'binary' with model\.fusion = stacked; allowed: sigmoid"
    ):
        run.train_model(replace(job, targets={"own": binary}), Path("work"))
    with pytest.raises(SettingError, match=r"model\.linear_path = true; allowed: sigmoid or linear"):
        Network.from_settings(make(linear_path=True).sections.model, {"own": binary}, STREAMS)
    few = replace(job, training=job.training.assign(video="v"))
    with pytest.raises(InputError, match=r"are of 1 videos; allowed with model\.linear_path"):
        run.train_model(few, Path("work"))
    with pytest.raises(SettingError, match=r"model\.stack\.network has 'faces'; allowed: features"):
        make(stack={"network": ["faces"], "trees": True}).sections.model.settings_by_encoder()
    devices = replace(job, sections=job.sections.model_copy(update={"train": Train(**TRAIN_SETTINGS | {"devices": 2})}))
    with pytest.raises(SettingError, match=r"train\.devices = 2 .* allowed: 1 for several networks"):
        train_committee(Fabric(accelerator="cpu", devices=1), devices, Path("work"), run.train_network)


def test_batches_of_single_vectors_equal_their_samples(
    make: Callable[..., TrainingJob], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make()
    monkeypatch.setattr(dataset, "_JOINED", 30)  # of 70 clips or more
    inputs = job.sections.model.settings_by_encoder()
    joined, single = (ClipDataset(job.training, Path("data"), inputs, STREAMS, {"own": GROUP}, 1) for _ in range(2))
    batch = joined.__getitems__([5, 2, 69])
    samples = [single[index] for index in (5, 2, 69)]
    assert not isinstance(batch, list)
    assert batch.index.tolist() == [5, 2, 69]
    for row, sample in enumerate(samples):
        np.testing.assert_array_equal(
            batch.inputs["features"]["features"].values[row], sample.inputs["features"]["features"].values
        )
        np.testing.assert_array_equal(batch.targets["own"][row], sample.targets["own"])


def test_cached_shard_equals_the_file_and_notices_changes(make: Callable[..., TrainingJob]) -> None:
    make()
    path = Path("data/features/all.h5")
    cached = read_cached(Path("data"), "features", "all")
    assert cached is not None
    for record in shards.read_records(path):
        assert cached[record.clip].attributes == record.attributes
        for name, values in record.arrays.items():
            np.testing.assert_array_equal(cached[record.clip].arrays[name], values)
            assert cached[record.clip].arrays[name].dtype == values.dtype
    assert read_cached(Path("data"), "features", "all") is cached
    path.unlink()
    with h5py.File(path, "w") as file:
        shards.write_record(file, Record("other.mp4", rejected="features: not in one.csv"))
    again = read_cached(Path("data"), "features", "all")
    assert again is not None
    assert again["other.mp4"].rejected == "features: not in one.csv"
