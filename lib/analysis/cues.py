"""Right for the right reason: do the importance maps lie where people marked the evidence for a target (cues.csv)?"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lib.analysis._context import Context, concatenate_tables
from lib.analysis._cue_masks import find_marked_cells, find_marked_moments
from lib.analysis._regions import Region, list_regions
from lib.analysis.importance import measure_occlusion
from lib.core.artifacts import CUE_SCORES, CUES
from lib.core.clips import read_csv, write_csv
from lib.core.targets import TargetGroup
from lib.scoring.bootstrap import Bootstrap, resample, sum_by_video
from lib.streams import base

OUTPUTS = (CUE_SCORES,)

OCCLUSION, CENTRE, SHUFFLED = "occlusion", "centre", "shuffled"
"""The model's map, and two maps to compare it with: a bell around the centre of the grid, and the model's map with its
regions in random order."""

POINTING, ENERGY = "pointing", "energy"
"""The fraction of maps whose maximum is marked (pointing game, Zhang et al. 2018), and the marked part of a map's sum."""

PLACE, TIME = "place", "time"

_COLUMNS = "targets", "stream", "kind", "score", "map", "target", "clips", "value", "low", "high"
_SPREAD = 0.25  # standard deviation of the bell in sides of the grid
_Masks = dict[tuple[str, str], np.ndarray]


def run(context: Context) -> None:
    write_csv(CUE_SCORES, run_cues(context, read_cue_table()))


def read_cue_table() -> pd.DataFrame:
    """Return the cues that the stage download has checked; none if it found no cues.csv."""
    return read_csv(CUES, ("clip", "target")) if CUES.exists() else pd.DataFrame({"clip": [], "target": []})


def run_cues(context: Context, cues: pd.DataFrame) -> pd.DataFrame:
    """Return the scores of the importance maps of up to `cue_clips` scored clips with cues, for each stream of images and
    each target; an empty table without such clips."""
    table, settings = context.clips.table, context.settings
    marked = np.flatnonzero(table["clip"].isin(cues["clip"]))
    chosen = marked[np.unique(np.linspace(0, len(marked) - 1, min(settings.cue_clips, len(marked))).astype(int))]
    if not len(chosen):
        return concatenate_tables([], _COLUMNS)
    samples = [context.clips[index]._replace(index=place) for place, index in enumerate(chosen.tolist())]
    regions = [*list_regions(context.network, samples, settings.importance_grid, settings.importance_moments)]
    if not regions:
        return concatenate_tables([], _COLUMNS)
    maps = measure_occlusion(context.fabric, context.network, samples, regions, context.batch_size)
    tables = []
    for name, group in context.targets.items():
        masks = [
            make_masks(_records(context, index), cues[cues["clip"] == table["clip"].iat[index]], regions, group)
            for index in chosen.tolist()
        ]
        videos, draws = table["video"].to_numpy()[chosen], (settings.control_repeats, context.bootstrap)
        tables.append(score_maps(maps[name], masks, regions, group, videos, draws).assign(targets=name))
    return concatenate_tables(tables, _COLUMNS)


def _records(context: Context, index: int) -> Mapping[str, Any]:
    """Return a clip's records of the frames and faces, which place a cell of an image in the frame."""
    return context.clips.records(
        index, [name for name in ("frames", "faces") if name in context.evaluation.trained.streams]
    )


def make_masks(
    records: Mapping[str, Any], cues: pd.DataFrame, regions: Sequence[Region], group: TargetGroup
) -> dict[str, _Masks]:
    """Return by target, and by stream and kind, whether each of the regions is marked in a clip (R,).

    cues: of the clip. Streams whose images have no known place in the frame, and targets without a cue, are left out.
    """
    masks: dict[str, _Masks] = {}
    for target in group.columns:
        relevant = cues[cues["target"].isin(["", target])]
        for stream in dict.fromkeys(region.stream for region in regions):
            cells = [region for region in regions if region.stream == stream and region.cell is not None]
            moments = [region for region in regions if region.stream == stream and region.moment is not None]
            boxes, times = relevant[relevant["x"].notna()], relevant[relevant["start"].notna()]
            if cells and len(boxes) and (mask := find_marked_cells(records, boxes, stream, cells)) is not None:
                masks.setdefault(target, {})[stream, PLACE] = mask
            if moments and len(times):
                seconds = float(base.step_times(records["frames"])[-1])
                masks.setdefault(target, {})[stream, TIME] = find_marked_moments(times, len(moments), seconds)
    return masks


def score_maps(
    maps: np.ndarray,
    masks: Sequence[dict[str, _Masks]],
    regions: Sequence[Region],
    group: TargetGroup,
    videos: np.ndarray,
    draws: tuple[int, Bootstrap],
) -> pd.DataFrame:
    """Return the scores of the maps (N, R, K) of clips with masks (`make_masks`), with 95 % intervals over videos (N,).

    draws: the number of random orders of the regions, and the resamples. Rows with the map "MAP - OTHER" are differences.
    """
    repeats, bootstrap = draws
    tables: list[dict[str, Any]] = []
    keys = dict.fromkeys(key for of_clip in masks for of_target in of_clip.values() for key in of_target)
    for stream, kind in keys:
        chosen = [
            region.stream == stream and (region.cell is not None if kind == PLACE else region.moment is not None)
            for region in regions
        ]
        for column, target in enumerate(group.columns):
            clips = [index for index, of_clip in enumerate(masks) if (stream, kind) in of_clip.get(target, {})]
            inside = [masks[index][target][stream, kind] for index in clips]
            values = _score_clips(
                [maps[index, chosen, column] for index in clips], inside, kind, (repeats, bootstrap.rng())
            )
            for (score, name), of_clips in values.items():
                row = {"stream": stream, "kind": kind, "score": score, "map": name, "target": target}
                tables.append(row | _summarise(of_clips, videos[clips], bootstrap))
    return pd.DataFrame(tables, columns=[*_COLUMNS[1:]])


def _score_clips(
    maps: Sequence[np.ndarray], inside: Sequence[np.ndarray], kind: str, draws: tuple[int, np.random.Generator]
) -> dict[tuple[str, str], np.ndarray]:
    """Return by score and map the value of each clip (N,); differences of the model's map to the others come last."""
    repeats, rng = draws
    values: dict[tuple[str, str], list[float]] = {}
    for values_of_map, mask in zip(maps, inside, strict=True):
        orders = [rng.permutation(len(mask)) for _ in range(repeats)]
        candidates: dict[str, list[np.ndarray]] = {OCCLUSION: [values_of_map]}
        if kind == PLACE:
            candidates[CENTRE] = [make_centre_map(len(mask))]
        candidates[SHUFFLED] = [values_of_map[order] for order in orders]
        for name, drawn in candidates.items():
            for score, function in ((POINTING, point), (ENERGY, measure_energy)):
                values.setdefault((score, name), []).append(
                    float(np.mean([function(candidate, mask) for candidate in drawn]))
                )
    arrays = {key: np.array(of_clips) for key, of_clips in values.items()}
    others = [name for score, name in arrays if score == POINTING and name != OCCLUSION]
    differences = {
        (score, f"{OCCLUSION} - {name}"): arrays[score, OCCLUSION] - arrays[score, name]
        for score in (POINTING, ENERGY)
        for name in others
    }
    return arrays | differences


def point(values: np.ndarray, inside: np.ndarray) -> float:
    """Return 1 if the maximum of a map (R,) is marked, `inside` (R,), else 0; the marked fraction if several are equal."""
    return float(inside[values == values.max()].mean())


def measure_energy(values: np.ndarray, inside: np.ndarray) -> float:
    """Return the marked part of a map's sum; a map of zeros counts as uniform."""
    total = values.sum()
    return float(values[inside].sum() / total) if total > 0 else float(inside.mean())


def make_centre_map(cells: int) -> np.ndarray:
    """Return a bell around the centre of a square grid with this number of cells (R,)."""
    side = round(cells**0.5)
    place = (np.arange(side) + 0.5) / side - 0.5
    bell = np.exp(-(place**2) / (2 * _SPREAD**2))
    return np.outer(bell, bell).ravel()


def _summarise(values: np.ndarray, videos: Iterable[str], bootstrap: Bootstrap) -> dict[str, float]:
    """Return the number of clips, and the mean of their values (N,) with its 95 % interval over videos."""
    sums = sum_by_video(np.column_stack([values, np.ones(len(values))]), np.asarray([*videos]))
    totals = resample(sums, bootstrap.resamples, bootstrap.rng())
    low, high = np.percentile(totals[:, 0] / totals[:, 1], [2.5, 97.5])
    return {"clips": len(values), "value": float(values.mean()), "low": float(low), "high": float(high)}
