"""The source `vlogs`: apparent Big Five of vloggers (YouTube Personality), with features, words and gender; no videos."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from lib.core.clips import VIDEO_SUFFIXES
from lib.core.errors import InputError, SettingError
from lib.core.parameters import Section
from lib.sources._archives import ANNOTATIONS, Unpacker, annotation_place, choose_folder
from lib.sources.base import Ranges

if TYPE_CHECKING:  # slow; params.yaml is checked without it
    import pandas as pd

ARCHIVES = True

CHECKSUMS: Mapping[str, str] = {}

SCORES, FEATURES, GENDER = (
    f"YouTube-Personality-{name}.csv" for name in ("Personality_impression_scores", "audiovisual_features", "gender")
)
"""Files of the distribution. Blanks separate the values; the first column is vlogId."""

TRAITS = {
    "Extr": "extraversion",
    "Agr": "agreeableness",
    "Cons": "conscientiousness",
    "Emot": "neuroticism",
    "Open": "openness",
}
"""Column -> target. Emot is emotional stability: as in FIV2, high values of the target `neuroticism` mean a calm person."""

GROUPS_FILE, FEATURES_FILE, GENDER_FILE = "vlogs_groups.csv", "audiovisual.csv", "gender.csv"
"""Tables that `bring` writes: gender as groups of persons; the features; gender as a feature (1: female)."""

GROUPS: Mapping[str, Mapping[str, Mapping[str, str]]] = {GROUPS_FILE: {}}

_ID = "vlogId"
_LOWEST, _HIGHEST = 1.0, 7.0


class Settings(Section):
    """The section download.vlogs; it has no keys."""


def bring(settings: Settings, archives: Path, folder: Path, videos: bool) -> Iterator[Path]:
    """Unpack scores, features and transcripts, and write tables with commas that streams and groups can read.

    Raises InputError if `videos` is true, or a file has another structure.
    """
    if videos:
        raise SettingError(
            "download.videos = true, but the source vlogs has no videos; allowed: false (params/vlogs.yaml)"
        )
    yield from Unpacker(folder, (), "unpack it by hand", _place).unpack(archives)
    annotations = folder / ANNOTATIONS
    if (annotations / FEATURES).exists():
        table = _read(annotations / FEATURES)
        yield _write(table.rename(columns={_ID: "clip"}), folder, FEATURES_FILE)
    if (annotations / GENDER).exists():
        table = _read(annotations / GENDER).rename(columns={_ID: "clip"})
        gender = table["gender"].str.lower()
        if not gender.isin(["male", "female"]).all():
            wrong = table.loc[~gender.isin(["male", "female"]), "gender"].iloc[0]
            raise InputError(f"{GENDER} has the gender {wrong!r}; allowed: Male and Female. Correct the file")
        yield _write(table.assign(gender=gender), folder, GROUPS_FILE)
        yield _write(table[["clip"]].assign(female=(gender == "female").astype(int)), folder, GENDER_FILE)


def _place(path: PurePath) -> Path | None:
    return None if path.suffix.lower() in VIDEO_SUFFIXES else annotation_place(path)


def _write(table: "pd.DataFrame", folder: Path, name: str) -> Path:
    path = Path(ANNOTATIONS, name)
    (folder / path).unlink(missing_ok=True)  # it may be a link into data/raw/
    table.to_csv(folder / path, index=False)
    return path


def _read(path: Path) -> "pd.DataFrame":
    """Return a file of the distribution as text. Raises InputError with the row for a wrong number of values."""
    import pandas as pd

    try:
        lines = [line.split() for line in path.read_text("utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise InputError(f"{path.name} is not UTF-8 ({error}); put the distributed file into data/archives/") from None
    if not lines or _ID not in lines[0]:
        header = " ".join(lines[0])[:80] if lines else ""
        raise InputError(
            f"{path.name} has the header {header!r}; required: values separated by blanks, among them {_ID}."
            " Put the distributed file into data/archives/"
        )
    for number, cells in enumerate(lines[1:], 2):
        if cells and len(cells) != len(lines[0]):
            raise InputError(
                f"{path.name}, row {number} has {len(cells)} values; allowed: {len(lines[0])}, like the header"
            )
    table = pd.DataFrame([cells for cells in lines[1:] if cells], columns=lines[0])
    if (twice := table[_ID][table[_ID].duplicated()]).size:
        raise InputError(f"{path.name} has {_ID} {twice.iloc[0]} twice; allowed: each vlog once. Remove a row")
    return table


def columns(settings: Section) -> Ranges:
    """Return the targets with their ranges."""
    return dict.fromkeys(TRAITS.values(), (_LOWEST, _HIGHEST))


def rows(settings: Section, folder: Path, files: Sequence[Path]) -> "pd.DataFrame":
    """Return the vlogs with a score, each as a clip of its own video, without a split.

    Raises InputError with row, column, value and allowed values at the first mistake.
    """
    import pandas as pd

    path = folder / ANNOTATIONS / SCORES
    if not path.exists():
        raise InputError(f"{SCORES} is missing; put the distributed file into data/archives/")
    table = _read(path)
    if missing := [column for column in TRAITS if column not in table]:
        raise InputError(f"{SCORES} has no column {missing[0]}; its columns are {', '.join(table)}. Add it")
    result = pd.DataFrame({"clip": table[_ID], "video": table[_ID], "split": "", "file": ""})
    result["shard"] = result["video"].map(choose_folder)
    for column, target in TRAITS.items():
        result[target] = [_score(number, column, text) for number, text in enumerate(table[column], 2)]
    return result


def _score(row: int, column: str, text: str) -> float:
    """Return a score, NaN for NA."""
    try:
        value = math.nan if text == "NA" else float(text)
    except ValueError:
        value = math.inf
    if not (math.isnan(value) or _LOWEST <= value <= _HIGHEST):
        raise InputError(
            f"{SCORES}, row {row}, column {column}: {text!r}; allowed: a number from {_LOWEST:g} to {_HIGHEST:g}, or NA."
            " Correct the file"
        )
    return value


def problem(row: Mapping[str, Any]) -> str:
    """Return the reason to reject a vlog without any score, or an empty string."""
    return "score: none is known" if all(math.isnan(row[target]) for target in TRAITS.values()) else ""
