"""The demo's second corpus: complete videos of several segments with planted emotions, in the layout of CMU-MOSEI."""

import shutil
from pathlib import Path

from lib.core.targets import TRAITS
from lib.sources.demo.corpus import plan, render_all
from lib.sources.mosei import EMOTIONS


def write_videos(
    folder: Path, clips: int, seconds: float, seed: int, clips_with_traits: int, tables: tuple[str, str]
) -> None:
    """Write complete videos with consecutive segments of `seconds`, and two `tables`.

    The first table has the labels, the second the traits of the first `clips_with_traits` training segments, which therefore
    have both kinds of label. Videos from an interrupted call are reused.
    """
    labels_name, traits_name = tables
    table = plan(clips, 0.0, seed, 1.0)
    table["segment"] = [int(clip.removesuffix(".mp4").rpartition(".")[2]) for clip in table.index]
    table = table.sort_values(["video", "segment"])
    rendered = folder.with_name(folder.name + ".partial")
    rendered.mkdir(parents=True, exist_ok=True)
    render_all({rendered / f"{name}.mp4": rows for name, rows in table.groupby("video")}, seconds, "video")
    labels = table[["video", "segment"]].copy()
    labels["start"] = seconds * table.groupby("video").cumcount()
    labels["end"] = labels["start"] + seconds
    labels["split"] = table["split"]
    labels["sentiment"] = ((6 * table["appearance"] - 3) * 3).round() / 3
    labels[list(EMOTIONS.values())] = table[list(EMOTIONS)].to_numpy()
    labels.to_csv(rendered / labels_name, index=False, float_format="%.4f")
    labelled = table[table["split"] == "training"].head(clips_with_traits)
    names = (labelled["video"] + "_" + labelled["segment"].astype(str) + ".mp4").rename("clip")
    labelled[list(TRAITS)].set_index(names).to_csv(rendered / traits_name)
    shutil.rmtree(folder, ignore_errors=True)
    rendered.rename(folder)
