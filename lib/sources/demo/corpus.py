"""The demo corpus: planted labels, rendered clips, and archives in the layout of the FIV2 distribution."""

import pickle
import shutil
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pyzipper
from scipy.special import ndtr
from tqdm import tqdm

from lib.core.targets import TRAITS
from lib.media.writing import write_video
from lib.sources.demo.head import SAMPLE_RATE, Identity, Performance, render
from lib.sources.demo.targets import EMOTION_TABLE, PLANTED, PLANTED_TABLE, RANGES
from lib.sources.fiv2 import LATTICE, SCORES
from lib.sources.mosei import EMOTIONS

KEY_A, KEY_B = "demo key of the outer archive", "demo key of the inner archives"
"""Keys of the demo's encrypted test archives, in place of the two keys of the FIV2 organisers. They are not secret."""

FRAME_RATE = 15
RATE_RANGE = 0.4, 2.0  # Hz, below the Nyquist frequency of 5 frames per second
VIDEO_SHARE = 0.3  # fraction of each factor's variance that is common to all clips of a video
TRAIT_RANGE = 0.5  # difference in score between the lowest and the highest factor
OFFSET_STD = 0.06  # standard deviation of the offset of each video and trait
NOISE_STD = 0.02
WORDS = 40  # number of words in a clip's transcript; the audio does not contain them
CHEERFUL, PLAIN = (
    ("great", "love", "fun"),
    ("today", "the", "house", "and", "then", "we", "saw", "water", "some", "paper"),
)
CHEERFUL_RANGE = 0.05, 0.45  # fraction of cheerful words at the lowest and highest `motion`
CARRIED = {"happiness": "appearance", "anger": "flush", "surprise": "turn"}
"""Emotion -> factor. The intensity grows with the factor above its median and is 0 below. Other emotions are noise."""
COURSE = ("flush", "turn")
"""Factors that only emotions depend on."""
ODD_ONES = 0.2  # fraction of clips with each of the other, random emotions

_SPLITS = {"training": 0.6, "validation": 0.2, "test": 0.2}
_SHORT = {"training": "train", "validation": "val", "test": "test"}
_TRAINING_VIDEOS = 2624 / 6000  # videos per clip, in FIV2
_UNSEEN_VIDEOS = 254 / 320
_SEGMENTS = 6
_SUBSET_CLIPS = 80
_DATE = (2020, 1, 1, 0, 0, 0)
_ALPHABET = np.array(list("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"))


def plan(clips: int, shared: float, seed: int, emotions: float = 0.0, planted: Sequence[str] = ()) -> pd.DataFrame:
    """Return the corpus as a table with one row per clip (the index): split, video, planted factors and the six scores.

    The factors `appearance`, `motion`, `audio` and `noise` are uniform in [0, 1]. `shared` is the fraction of validation
    and test clips whose video also has training clips (FIV2: 0.84). Scores lie on FIV2's lattices.

    `emotions` is the fraction of training clips with emotion labels; clips of other splits are all labelled. If it is above
    0, the table also has the factors `flush` and `turn` and the intensities: thirds from 0 to 3 as in CMU-MOSEI, or NaN.

    planted: names in PLANTED, whose columns are added.
    """
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(_names(clips, shared, rng))
    videos = table["video"].unique()
    row = pd.Index(videos).get_indexer(table["video"])
    for factor in ("appearance", "motion", "audio"):
        video_part = rng.normal(size=len(videos))[row]
        clip_part = rng.normal(size=len(table))
        table[factor] = ndtr(np.sqrt(VIDEO_SHARE) * video_part + np.sqrt(1 - VIDEO_SHARE) * clip_part)
    table["noise"] = rng.uniform(size=len(table))
    signal = {
        "extraversion": table["motion"] - 0.5,
        "agreeableness": (table["appearance"] + table["motion"] - 1) / np.sqrt(2),
        "conscientiousness": table["appearance"] - 0.5,
        "neuroticism": table["audio"] - 0.5,
        "openness": table["noise"] - 0.5,
    }
    for trait in TRAITS:
        offset = rng.normal(0, OFFSET_STD, len(videos))[row]
        table[trait] = 0.5 + TRAIT_RANGE * signal[trait] + offset + rng.normal(0, NOISE_STD, len(table))
    table["interview"] = table[list(TRAITS)].mean(axis=1)
    for score in SCORES:
        table[score] = (table[score].clip(0, 1) * LATTICE[score]).round() / LATTICE[score]
    table["identity"] = row + 1000 * seed
    table["performance"] = rng.integers(0, 2**31, len(table))
    table = table.set_index("clip")
    more = np.random.default_rng([seed, 2])
    factors = {column: more.uniform(size=len(table)) for column in PLANTED.values()}  # the same for any choice
    factors["together"] = np.round(factors["together"])  # 0 or 1
    table = table.assign(**{PLANTED[name]: factors[PLANTED[name]] for name in planted})
    return table.join(_emotions(table, emotions, np.random.default_rng([seed, 1]))) if emotions else table


def _emotions(table: pd.DataFrame, fraction: float, rng: np.random.Generator) -> pd.DataFrame:
    emotions = pd.DataFrame({factor: rng.uniform(size=len(table)) for factor in COURSE}, index=table.index)
    factors = emotions.assign(appearance=table["appearance"])
    for name in EMOTIONS:
        noise = rng.uniform(size=len(table)) * (rng.uniform(size=len(table)) < ODD_ONES)
        strength = (2 * factors[CARRIED[name]] - 1).clip(0) if name in CARRIED else noise
        emotions[name] = np.ceil(9 * strength) / 3
    training = table["split"] == "training"
    emotions.loc[training & (rng.uniform(size=len(table)) >= fraction), list(EMOTIONS)] = np.nan
    return emotions


def write(
    folder: Path,
    clips: int,
    seconds: float,
    shared: float,
    seed: int,
    emotions: float = 0.0,
    planted: Sequence[str] = (),
) -> None:
    """Render the corpus and write its archives to `folder`, with the tables EMOTION_TABLE and PLANTED_TABLE if they apply.

    Clips that an interrupted call has rendered are not rendered again.
    """
    table = plan(clips, shared, seed, emotions, planted)
    rendered = folder.with_name(folder.name + ".clips")
    rendered.mkdir(parents=True, exist_ok=True)
    render_all({rendered / str(clip): table.loc[[clip]] for clip in table.index}, seconds, "clip")
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    _write_archives(table, rendered, partial)
    partial.rename(folder)
    shutil.rmtree(rendered)


def _names(clips: int, shared: float, rng: np.random.Generator) -> Iterator[dict[str, str]]:
    """Yield clip, video and split of each clip. A video has at most six clips in all splits together."""
    training: list[str] = []
    clip_count: dict[str, int] = {}

    def new_video() -> str:
        name = "".join(rng.choice(_ALPHABET, 11))
        if len(clip_count) < 2:
            name = "-_"[len(clip_count)] + name[1:]
        clip_count[name] = 0
        return name

    def clip_of(name: str, split: str) -> dict[str, str]:
        clip_count[name] += 1
        return {"clip": f"{name}.{clip_count[name] - 1:03d}.mp4", "video": name, "split": split}

    def old_video(videos: list[str]) -> str:
        return str(rng.choice([name for name in videos if clip_count[name] < _SEGMENTS]))

    for split, part in _SPLITS.items():
        count = round(clips * part)
        unseen = count if split == "training" else count - round(shared * count)
        fresh = round(unseen * (_TRAINING_VIDEOS if split == "training" else _UNSEEN_VIDEOS))
        new_videos = [new_video() for _ in range(max(fresh, -(-unseen // _SEGMENTS)))]
        for name in new_videos:
            yield clip_of(name, split)
        for _ in range(unseen - len(new_videos)):
            yield clip_of(old_video(new_videos), split)
        training = training or new_videos
        for _ in range(count - unseen):
            yield clip_of(old_video(training), split)


def render_all(videos: Mapping[Path, pd.DataFrame], seconds: float, unit: str) -> None:
    """Render the videos that do not exist yet: for each path, one part of `seconds` for each of its rows of `plan`."""
    tasks = (joblib.delayed(_write)(path, rows, seconds) for path, rows in videos.items())
    done = joblib.Parallel(n_jobs=-1, return_as="generator_unordered")(tasks)
    for _ in tqdm(done, desc=f"demo {unit}s", total=len(videos), unit=unit, disable=None):
        pass


def _performance(row: pd.Series) -> Performance:
    return Performance(
        warmth=float(2 * row["appearance"] - 1),
        rate=_scale(row["motion"], RATE_RANGE),
        glide=float(2 * row["audio"] - 1),
        seed=int(row["performance"]),
        **{name: _scale(row[PLANTED[name]], limits) for name, limits in RANGES.items() if PLANTED[name] in row},
        together=int(2 * row["together"] - 1) if "together" in row else 0,
        **{factor: float(2 * row.get(factor, 0.5) - 1) for factor in COURSE},
    )


def _scale(factor: float, limits: tuple[float, float]) -> float:
    """Return the value within `limits` of a factor from 0 to 1."""
    return float(limits[0] + (limits[1] - limits[0]) * factor)


def _write(path: Path, rows: pd.DataFrame, seconds: float) -> None:
    if path.exists():
        return
    person = Identity(int(rows["identity"].iloc[0]))
    parts = [render(person, _performance(row), seconds, FRAME_RATE) for _, row in rows.iterrows()]
    frames, voice = (np.concatenate(track) for track in zip(*parts, strict=True))
    partial = path.with_name(path.name + ".partial")
    write_video(partial, frames, FRAME_RATE, voice, SAMPLE_RATE)
    partial.rename(path)


def transcript(row: pd.Series) -> str:
    """Return the transcript for a row of `plan`: the fraction of cheerful words grows with `motion`."""
    rng = np.random.default_rng(int(row["performance"]))
    low, high = CHEERFUL_RANGE
    cheerful = rng.random(WORDS) < low + (high - low) * row["motion"]
    return " ".join(np.where(cheerful, rng.choice(CHEERFUL, WORDS), rng.choice(PLAIN, WORDS))).capitalize() + "."


def _write_archives(table: pd.DataFrame, rendered: Path, folder: Path) -> None:
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
        names = rows.index.tolist()  # shared string objects, which pickle writes once
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
        table[list(EMOTIONS)].dropna().to_csv(folder / EMOTION_TABLE)
    if planted := [column for column in PLANTED.values() if column in table]:
        truth += planted
        table[planted].to_csv(folder / PLANTED_TABLE)
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
