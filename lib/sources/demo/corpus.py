"""The demo corpus: planted labels, rendered clips, and archives in the very layout that FIV2 is distributed in."""

import pickle
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pyzipper
from scipy.stats import norm
from tqdm import tqdm

from lib.core.targets import TRAITS
from lib.media.writing import write_video
from lib.sources.demo.head import SAMPLE_RATE, Identity, Performance, render
from lib.sources.fiv2 import LATTICE, SCORES
from lib.sources.mosei import EMOTIONS

KEY_A, KEY_B = "demo key of the outer archive", "demo key of the inner archives"
"""They encrypt the demo's test archives, as the organisers' two keys do FIV2's; no secret."""

FRAME_RATE = 15
RATE_RANGE = 0.4, 2.0  # Hz; 5 sampled frames a second follow up to 2.5
VIDEO_SHARE = 0.3  # of each factor's variance that all clips of a video share
TRAIT_RANGE = 0.5  # of a score, from the lowest to the highest factor
OFFSET_STD = 0.06  # of the per-video offset, one for each trait
NOISE_STD = 0.02
WORDS = 40  # of a clip's transcript; nobody says them in its sound
CHEERFUL, PLAIN = (
    ("great", "love", "fun"),
    ("today", "the", "house", "and", "then", "we", "saw", "water", "some", "paper"),
)
CHEERFUL_RANGE = 0.05, 0.45  # share of the words, by the factor `motion`
CARRIED = {"happiness": "appearance", "anger": "flush", "surprise": "turn"}
"""Emotions that are there where a factor is above its middle, the stronger the more; the others are noise."""
COURSE = ("flush", "turn")
"""The factors that emotions alone have."""
ODD_ONES = 0.2  # of the clips have each of the other emotions

_SPLITS = {"training": 0.6, "validation": 0.2, "test": 0.2}
_SHORT = {"training": "train", "validation": "val", "test": "test"}
_TRAINING_VIDEOS = 2624 / 6000  # videos a clip, in FIV2
_UNSEEN_VIDEOS = 254 / 320
_SEGMENTS = 6
_SUBSET_CLIPS = 80
_DATE = (2020, 1, 1, 0, 0, 0)
_ALPHABET = np.array(list("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"))


def plan(clips: int, shared: float, seed: int, emotions: float = 0.0) -> pd.DataFrame:
    """Return the corpus as a table: a row a clip (the index), split, video, the planted factors and the six scores.

    The factors `appearance`, `motion`, `audio` and `noise` are uniform in [0, 1]; `shared` is the fraction of validation
    and test clips whose video has training clips too (FIV2: 0.84). Scores lie on FIV2's lattices. With `emotions`, the
    fraction of the training clips whose emotions are known (of the other splits' clips all are), there are the factors
    `flush` and `turn` and the emotions' intensities, in thirds from 0 to 3 as CMU-MOSEI's, NaN where not known.
    """
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(_names(clips, shared, rng))
    videos = table["video"].unique()
    row = pd.Index(videos).get_indexer(table["video"])
    for factor in ("appearance", "motion", "audio"):
        of_video = rng.normal(size=len(videos))[row]
        of_clip = rng.normal(size=len(table))
        table[factor] = norm.cdf(np.sqrt(VIDEO_SHARE) * of_video + np.sqrt(1 - VIDEO_SHARE) * of_clip)
    table["noise"] = rng.uniform(size=len(table))
    carried = {
        "extraversion": table["motion"] - 0.5,
        "agreeableness": (table["appearance"] + table["motion"] - 1) / np.sqrt(2),
        "conscientiousness": table["appearance"] - 0.5,
        "neuroticism": table["audio"] - 0.5,
        "openness": table["noise"] - 0.5,
    }
    for trait in TRAITS:
        offset = rng.normal(0, OFFSET_STD, len(videos))[row]
        table[trait] = 0.5 + TRAIT_RANGE * carried[trait] + offset + rng.normal(0, NOISE_STD, len(table))
    table["interview"] = table[list(TRAITS)].mean(axis=1)
    for score in SCORES:
        table[score] = (table[score].clip(0, 1) * LATTICE[score]).round() / LATTICE[score]
    table["identity"] = row + 1000 * seed
    table["performance"] = rng.integers(0, 2**31, len(table))
    table = table.set_index("clip")
    return table.join(_emotions(table, emotions, np.random.default_rng([seed, 1]))) if emotions else table


def _emotions(table: pd.DataFrame, known: float, rng: np.random.Generator) -> pd.DataFrame:
    found = pd.DataFrame({factor: rng.uniform(size=len(table)) for factor in COURSE}, index=table.index)
    factors = found.assign(appearance=table["appearance"])
    for name in EMOTIONS:
        by_chance = rng.uniform(size=len(table)) * (rng.uniform(size=len(table)) < ODD_ONES)
        strength = (2 * factors[CARRIED[name]] - 1).clip(0) if name in CARRIED else by_chance
        found[name] = np.ceil(9 * strength) / 3
    training = table["split"] == "training"
    found.loc[training & (rng.uniform(size=len(table)) >= known), list(EMOTIONS)] = np.nan
    return found


def write(
    folder: Path, clips: int, seconds: float, shared: float, seed: int, emotions: float = 0.0, intensities: str = ""
) -> None:
    """Render the corpus and write its archives to `folder`, and where there are emotions a table of them, `intensities`.

    Clips rendered by an interrupted call are not rendered again.
    """
    table = plan(clips, shared, seed, emotions)
    rendered = folder.with_name(folder.name + ".clips")
    rendered.mkdir(parents=True, exist_ok=True)
    render_all({rendered / str(clip): table.loc[[clip]] for clip in table.index}, seconds, "clip")
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    _write_archives(table, rendered, partial, intensities)
    partial.rename(folder)
    shutil.rmtree(rendered)


def _names(clips: int, shared: float, rng: np.random.Generator) -> Iterator[dict[str, str]]:
    """Yield clip, video and split; at most six clips of a video over all splits."""
    training: list[str] = []
    used: dict[str, int] = {}

    def new_video() -> str:
        name = "".join(rng.choice(_ALPHABET, 11))
        if len(used) < 2:
            name = "-_"[len(used)] + name[1:]
        used[name] = 0
        return name

    def clip_of(name: str, split: str) -> dict[str, str]:
        used[name] += 1
        return {"clip": f"{name}.{used[name] - 1:03d}.mp4", "video": name, "split": split}

    def old_video(among: list[str]) -> str:
        return str(rng.choice([name for name in among if used[name] < _SEGMENTS]))

    for split, part in _SPLITS.items():
        count = round(clips * part)
        unseen = count if split == "training" else count - round(shared * count)
        fresh = round(unseen * (_TRAINING_VIDEOS if split == "training" else _UNSEEN_VIDEOS))
        own = [new_video() for _ in range(max(fresh, -(-unseen // _SEGMENTS)))]
        for name in own:
            yield clip_of(name, split)
        for _ in range(unseen - len(own)):
            yield clip_of(old_video(own), split)
        training = training or own
        for _ in range(count - unseen):
            yield clip_of(old_video(training), split)


def render_all(films: Mapping[Path, pd.DataFrame], seconds: float, unit: str) -> None:
    """Write films, of the rows of `plan` that one shows after the other, of so many seconds each; none that is there."""
    tasks = (joblib.delayed(_write)(path, rows, seconds) for path, rows in films.items())
    done = joblib.Parallel(n_jobs=-1, return_as="generator_unordered")(tasks)
    for _ in tqdm(done, desc=f"demo {unit}s", total=len(films), unit=unit, disable=None):
        pass


def _performance(row: pd.Series) -> Performance:
    return Performance(
        warmth=float(2 * row["appearance"] - 1),
        rate=float(RATE_RANGE[0] + (RATE_RANGE[1] - RATE_RANGE[0]) * row["motion"]),
        glide=float(2 * row["audio"] - 1),
        seed=int(row["performance"]),
        **{factor: float(2 * row.get(factor, 0.5) - 1) for factor in COURSE},
    )


def _write(path: Path, rows: pd.DataFrame, seconds: float) -> None:
    if path.exists():
        return
    person = Identity(int(rows["identity"].iloc[0]))
    parts = [render(person, _performance(row), seconds, FRAME_RATE) for _, row in rows.iterrows()]
    frames, voice = (np.concatenate(of) for of in zip(*parts, strict=True))
    partial = path.with_name(path.name + ".partial")
    write_video(partial, frames, FRAME_RATE, voice, SAMPLE_RATE)
    partial.rename(path)


def transcript(row: pd.Series) -> str:
    """Return a clip's words, of its row of `plan`: the more `motion`, the more of them are cheerful."""
    rng = np.random.default_rng(int(row["performance"]))
    low, high = CHEERFUL_RANGE
    cheerful = rng.random(WORDS) < low + (high - low) * row["motion"]
    return " ".join(np.where(cheerful, rng.choice(CHEERFUL, WORDS), rng.choice(PLAIN, WORDS))).capitalize() + "."


def _write_archives(table: pd.DataFrame, rendered: Path, folder: Path, intensities: str) -> None:
    for split, rows in table.groupby("split", sort=False):
        short, secret = _SHORT[split], split == "test"
        outer = folder / (f"{short}-1e.zip" if secret else f"{short}-1.zip")
        with _archive(outer, KEY_A if secret else None) as archive:
            for number, start in enumerate(range(0, len(rows), _SUBSET_CLIPS), 1):
                subset = f"{split}80_{number:02d}.zip"
                inner = folder / subset
                with _archive(inner, KEY_B if secret else None) as clips:
                    for clip in sorted(rows.index[start : start + _SUBSET_CLIPS]):
                        _add(clips, clip, (rendered / clip).read_bytes())
                _add(archive, f"test-1/{subset}" if secret else subset, inner.read_bytes())
                inner.unlink()
        names = rows.index.tolist()  # the same strings for each score, so that the pickle holds them once
        scores = {name: dict(zip(names, rows[name].tolist(), strict=True)) for name in SCORES}
        annotation = f"{short}-annotation.zip" if split == "training" else f"{short}-annotation-e.zip"
        with _archive(folder / annotation, None if split == "training" else KEY_A) as archive:
            _add(archive, f"annotation_{split}.pkl", pickle.dumps(scores, protocol=2))
        texts = {clip: transcript(row) for clip, row in rows.iterrows()}
        transcription = f"{short}-transcription-e.zip" if secret else f"{short}-transcription.zip"
        with _archive(folder / transcription, KEY_A if secret else None) as archive:
            _add(archive, f"transcription_{split}.pkl", pickle.dumps(texts, protocol=2))
    truth = ["split", "video", "appearance", "motion", "audio", "noise"]
    if "flush" in table:
        truth += COURSE
        table[list(EMOTIONS)].dropna().to_csv(folder / intensities)
    table[truth].to_csv(folder / "demo_truth.csv")


def _archive(path: Path, key: str | None) -> pyzipper.AESZipFile:
    archive = pyzipper.AESZipFile(path, "w", encryption=pyzipper.WZ_AES if key else None)
    if key:
        archive.setpassword(key.encode())
    return archive


def _add(archive: pyzipper.AESZipFile, name: str, content: bytes) -> None:
    entry = pyzipper.zipfile_aes.AESZipInfo(name, date_time=_DATE)
    entry.compress_type = zipfile.ZIP_STORED
    entry.external_attr = 0o644 << 16
    archive.writestr(entry, content)
