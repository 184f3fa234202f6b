"""Predict and score beside the baselines, on all clips and for groups of persons, and the other splits for comparison:
data/predictions.csv, data/scores.csv, data/comparisons.csv, data/group_scores.csv, data/split_scores.csv, metrics/test.json,
data/lost.csv, data/provenance.json, data/attention.h5, data/mean_attention.h5, data/controls.csv, data/importance.h5,
data/deletion.csv, data/robustness.csv, data/probes.csv, data/map.csv, data/samples.h5."""

import json
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from lightning_fabric import Fabric
from pydantic import Field

from lib.core import clips, command, parameters
from lib.core.artifacts import (
    ATTENTION,
    CLIPS,
    COMPARISONS,
    CONTROLS,
    DATA,
    DELETION,
    EMBEDDING_MAP,
    GROUP_SCORES,
    GROUPS,
    IMPORTANCE,
    LOST,
    MEAN_ATTENTION,
    MODEL,
    PREDICTIONS,
    PROBES,
    PROVENANCE,
    ROBUSTNESS,
    SAMPLES,
    SCORES,
    SPLIT_SCORES,
    TEST_METRICS,
)  # fmt: skip
from lib.core.device import best_device
from lib.core.errors import InputError
from lib.core.parameters import Section
from lib.core.targets import TargetGroup
from lib.data import pooled
from lib.data.dataset import Clips, first_videos, labelled, lost, usable
from lib.model import checkpoint, controls, explain, features, importance, infer, robustness
from lib.scoring import baselines, maps
from lib.scoring.baselines import is_seen
from lib.scoring.tables import (
    CONTROL_COLUMNS,
    DELETION_COLUMNS,
    ROBUSTNESS_COLUMNS,
    comparison_table,
    control_table,
    deletion_table,
    group_table,
    headline,
    probe_table,
    score_table,
    split_table,
)

_SAMPLES = 3  # clips


class Evaluate(Section):
    split: Literal["test", "validation"]
    batch_size: Annotated[int, Field(ge=1, le=65_536)]
    attention_clips: Annotated[int, Field(ge=0, le=10_000)]
    control_clips: Annotated[int, Field(ge=0, le=1_000_000)]
    control_repeats: Annotated[int, Field(ge=1, le=1000)]
    trees: bool
    importance_clips: Annotated[int, Field(ge=0, le=1_000_000)]
    robustness_clips: Annotated[int, Field(ge=0, le=1_000_000)]
    map_clips: Annotated[int, Field(ge=0, le=100_000)]
    resamples: Annotated[int, Field(ge=100, le=1_000_000)]
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)]


class Parameters(Section):
    evaluate: Evaluate


def main() -> None:
    settings = parameters.load("evaluate", Parameters).evaluate
    served = checkpoint.load(MODEL, best_device())
    readings = served.network.readings
    verified = clips.read(CLIPS)
    table = usable(verified, DATA, readings, served.settings.missing)
    lost(verified, table["clip"], DATA, readings).to_csv(LOST, index=False)
    PROVENANCE.write_text(json.dumps(served.provenance, indent=2) + "\n")
    table = table[table["corpus"].isin(served.corpora) | (table["split"] != "training")]
    splits = {split: table[table["split"] == split].reset_index(drop=True) for split in clips.SPLITS}
    if served.clips is not None:
        training = splits["training"]
        training = training[labelled(training, served.targets)].reset_index(drop=True)
        splits["training"] = first_videos(training, served.clips, served.seed)
    training, validation, test = splits["training"], splits["validation"], splits[settings.split]
    if settings.split == "validation":  # what is scored can't choose a baseline's strength
        validation = validation[:0]
    if test.empty:
        raise InputError(f"params.yaml: evaluate.split = {settings.split!r}, but no clip of that split came through")
    data = {split: Clips(rows, DATA, readings, served.streams, {}) for split, rows in splits.items() if len(rows)}
    fabric = Fabric(devices=1)
    with features.recorded(served.network) as recorded:
        predicted = {
            split: infer.predict(fabric, served.network, of_split, settings.batch_size, 0, bar=f"predict {split}")
            for split, of_split in data.items()
        }
    used = pd.concat([splits[split] for split in data], ignore_index=True)
    made = {name: pd.DataFrame(np.concatenate(of), index=used["clip"]) for name, of in recorded.items()}
    seen, vectors = is_seen(training, test), pooled.vectors(DATA)
    persons = pd.read_csv(GROUPS, dtype=str, keep_default_na=False).set_index("clip").loc[test["clip"]]

    read = made | as_loaded(data, settings.batch_size)
    rows, scores, compared, of_persons, of_splits, probes = [], [], [], [], [], []
    for name, group in served.targets.items():
        columns = group.columns
        judged = {
            split: (_actual(splits[split], group), group.from_unit(of[name]), splits[split]["video"].to_numpy())
            for split, of in predicted.items()
        }
        actual, values, _ = judged[settings.split]
        about = test.loc[test.index.repeat(len(columns)), ["clip", "video", "corpus", "split"]]
        about = about.assign(seen=np.repeat(seen, len(columns)), targets=name, target=columns * len(test))
        rows.append(about.assign(actual=actual.ravel(), predicted=values.ravel()))
        known = np.isfinite(actual).any(1)
        if not known.any():
            raise InputError(
                f"params.yaml: model.targets has {name}, but no {settings.split} clip's {', '.join(columns)} are known"
            )
        predictions = {"model": values} | baselines.predict(
            training, test, validation, columns, vectors, settings.trees
        )
        predictions = {of: one[known] for of, one in predictions.items()}
        scored = actual[known], predictions, test[known].reset_index(drop=True)
        span, resamples, seed = group.span, settings.resamples, settings.seed
        reference = served.references.get(name)
        half_widths = None if reference is None else reference.half_widths.numpy()
        table = score_table(*scored, seen[known], group, resamples, seed, half_widths)
        scores.append(table.assign(targets=name))
        compared.append(comparison_table(*scored, seen[known], group, resamples, seed).assign(targets=name))
        table = group_table(*scored, persons[known], columns, span, resamples, seed)
        of_persons.append(table.assign(targets=name))
        arguments = training, test[known].reset_index(drop=True), validation, group, read, resamples, seed
        probes.append(probe_table(*arguments).assign(targets=name))
        of_splits.append(split_table(judged, columns, span, resamples, seed).assign(targets=name))
    pd.concat(rows).to_csv(PREDICTIONS, index=False, float_format="%.6f")
    found = first_column("targets", pd.concat(scores))
    found.to_csv(SCORES, index=False, float_format="%.6f")
    first_column("targets", pd.concat(compared)).to_csv(COMPARISONS, index=False, float_format="%.6f")
    first_column("targets", pd.concat(of_persons)).to_csv(GROUP_SCORES, index=False, float_format="%.6f")
    first_column("targets", pd.concat(of_splits)).to_csv(SPLIT_SCORES, index=False, float_format="%.6f")
    first_column("targets", pd.concat(probes)).to_csv(PROBES, index=False, float_format="%.6f")
    place(made, used, settings).to_csv(EMBEDDING_MAP, index=False, float_format="%.6f")
    TEST_METRICS.write_text(
        json.dumps({name: headline(of) for name, of in found.groupby("targets", sort=False)}, indent=2) + "\n"
    )
    by_error = _by_error(rows[0])
    chosen = by_error[spread(len(by_error), min(settings.attention_clips, len(by_error)))]
    explain.write_attention(ATTENTION, served.network, data[settings.split], pd.Index(test["clip"]).get_indexer(chosen))
    sample = spread(len(test), min(settings.control_clips, len(test)))
    explain.write_mean_attention(MEAN_ATTENTION, served.network, data[settings.split], sample, settings.seed)
    control(fabric, served, data[settings.split], sample, settings).to_csv(CONTROLS, index=False, float_format="%.6f")
    sample = spread(len(test), min(settings.importance_clips, len(test)))
    weigh(fabric, served, data[settings.split], sample, settings).to_csv(DELETION, index=False, float_format="%.6f")
    sample = spread(len(test), min(settings.robustness_clips, len(test)))
    worsen(fabric, served, data[settings.split], sample, settings).to_csv(ROBUSTNESS, index=False, float_format="%.6f")
    samples = test.set_index("clip").loc[by_error[spread(len(by_error), _SAMPLES)]].reset_index()
    explain.write_samples(SAMPLES, samples, DATA, readings, served.streams)


def as_loaded(data: dict[str, Clips], batch_size: int) -> dict[str, pd.DataFrame]:
    """Return what the encoders that began with given weights made of the clips before training (frozen encoder and ridge: a
    baseline that tells what training was worth); of none where the weights can't be had, which is said."""
    try:
        encoders = checkpoint.pretrained(MODEL)
    except InputError as error:
        print(f"the encoders as they were loaded are not probed: {error}")
        return {}
    return {
        f"{name}, as loaded": pd.concat(
            [features.frozen(encoder, name, of_split, batch_size, best_device()) for of_split in data.values()]
        )
        for name, encoder in encoders.items()
    }


def place(made: dict[str, pd.DataFrame], used: pd.DataFrame, settings: Evaluate) -> pd.DataFrame:
    """Return where clips' features lie on a plane: features, clip, video, split, x and y, of evaluate.map_clips clips, all
    clips of a video (but for the last); and, of all of the features, same_video and same_video_by_chance as
    `maps.together` says."""
    videos = np.random.default_rng(settings.seed).permutation(used["video"].unique())
    order = np.argsort(pd.Index(videos).get_indexer(used["video"]), kind="stable")
    shown = used.iloc[order[: settings.map_clips]]
    tables = [
        pd.DataFrame(columns=["features", "clip", "video", "split", "x", "y", "same_video", "same_video_by_chance"])
    ]
    for name, vectors in made.items() if len(shown) else ():
        values = vectors.loc[shown["clip"]].to_numpy()
        x, y = maps.plane(values, settings.seed).T
        found, by_chance = maps.together(values, shown["video"].to_numpy())
        table = shown[["clip", "video", "split"]].assign(features=name, x=x, y=y)
        tables.append(table.assign(same_video=found, same_video_by_chance=by_chance)[[*tables[0].columns]])
    return pd.concat(tables[1:] or tables)


def control(
    fabric: Fabric, served: checkpoint.Served, clips_: Clips, sample: list[int], settings: Evaluate
) -> pd.DataFrame:
    """Return `control_table` of each target group, of the clips of a sample that know a target; without any, no row."""
    rows = clips_.table.iloc[sample]
    tables: list[pd.DataFrame] = []
    if sample:
        repeats, seed = settings.control_repeats, settings.seed
        predicted = controls.predict(fabric, served.network, clips_, sample, settings.batch_size, repeats, seed)
        for name, group in served.targets.items():
            actual = _actual(rows, group)
            known = np.isfinite(actual).any(1)
            given = {what: [group.from_unit(one[known]) for one in of[name]] for what, of in predicted.items()}
            videos = rows["video"][known].to_numpy()
            if known.any():
                table = control_table(given, controls.INTACT, actual[known], videos, group, settings.resamples, seed)
                tables.append(table.assign(targets=name))
    return pd.concat(tables)[[*CONTROL_COLUMNS]] if tables else pd.DataFrame(columns=[*CONTROL_COLUMNS])


def weigh(
    fabric: Fabric, served: checkpoint.Served, clips_: Clips, sample: list[int], settings: Evaluate
) -> pd.DataFrame:
    """Write data/importance.h5, which is empty without a sample; return `deletion_table` of each target group."""
    if not sample:
        importance.write(IMPORTANCE, importance.Importance([], {}, {}, {}))
        return pd.DataFrame(columns=[*DELETION_COLUMNS])
    samples = [clips_[index]._replace(index=place) for place, index in enumerate(sample)]
    found = importance.measure(fabric, served.network, samples, settings.batch_size)
    importance.write(IMPORTANCE, found)
    repeats, seed = settings.control_repeats, settings.seed
    deleted = importance.delete(fabric, served.network, samples, found, settings.batch_size, repeats, seed)
    tables = []
    for name, group in served.targets.items():
        given = {key: [group.from_unit(one) for one in of[name]] for key, of in deleted.items()}
        table = deletion_table(given, _actual(clips_.table.iloc[sample], group), group)
        tables.append(table.assign(targets=name))
    return pd.concat(tables)[[*DELETION_COLUMNS]]


def worsen(
    fabric: Fabric, served: checkpoint.Served, clips_: Clips, sample: list[int], settings: Evaluate
) -> pd.DataFrame:
    """Return what worse faces cost, of each target group, on the clips of a sample that know a target and can be predicted
    whatever is done: `control_table` with the columns corruption and strength; without any, no row."""
    rows, tables = clips_.table.iloc[sample], list[pd.DataFrame]()
    predicted = robustness.predict(fabric, served.network, served.streams, clips_, sample, settings.batch_size)
    for name, group in served.targets.items():
        found = {what: of[name] for what, of in predicted.items() if name in of}
        if len(found) < len(predicted) or not found:
            continue
        actual = _actual(rows, group)
        used = np.isfinite(actual).any(1) & np.isfinite([*found.values()]).all((0, 2))
        if used.any():
            done = {str(what): what for what in found}
            given = {name_: [group.from_unit(found[what][used])] for name_, what in done.items()}
            videos, resamples = rows["video"][used].to_numpy(), settings.resamples
            table = control_table(given, str(robustness.INTACT), actual[used], videos, group, resamples, settings.seed)
            corruption, strength = zip(*(done[one] for one in table["control"]), strict=True)
            tables.append(table.assign(targets=name, corruption=corruption, strength=strength))
    return pd.concat(tables)[[*ROBUSTNESS_COLUMNS]] if tables else pd.DataFrame(columns=[*ROBUSTNESS_COLUMNS])


def _actual(table: pd.DataFrame, group: TargetGroup) -> np.ndarray:
    """The clips' targets (N, K), in the precision that is trained on."""
    return table[list(group.columns)].to_numpy(np.float32).astype(float)


def _by_error(predictions: pd.DataFrame) -> pd.Index:
    """The clips that know a target, from the lowest to the highest mean absolute error."""
    errors = (predictions["predicted"] - predictions["actual"]).abs()
    return errors.groupby(predictions["clip"]).mean().dropna().sort_values(kind="stable").index


def spread(clips_: int, count: int) -> list[int]:
    """Return `count` indices spread over `clips_`."""
    return np.unique(np.linspace(0, clips_ - 1, count).astype(int)).tolist() if count else []


def first_column(name: str, table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with that column in front."""
    return table[[name, *table.columns.drop(name)]]


if __name__ == "__main__":
    command.run_stage(main)
