"""One corpus of odd, broken and hostile clips, all made here, through download, frames, audio, faces and flow."""

import os
import pickle
import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pandas as pd
import pytest

from lib.core import shards
from lib.core.shards import Record
from lib.media.frames import probe_video
from lib.sources.demo.head import HEIGHT, SAMPLE_RATE, WIDTH, Identity, Performance, render
from lib.sources.fiv2 import LATTICE, SCORES
from tests.project_copy import Project

FPS, SECONDS = 15, 2.4
HEAD, VOICE = render(Identity(3), Performance(0.0, 1.2, 0.5, 1), SECONDS, FPS)
EMPTY = np.broadcast_to(
    cv2.GaussianBlur(np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8), (0, 0), 3), HEAD.shape
)
Writer = Callable[[Path], None]


def speak(container: av.container.OutputContainer, stream: av.AudioStream) -> None:
    """The voice as the whole of an audio stream."""
    samples = av.AudioFrame.from_ndarray(VOICE.astype(np.float32)[None], format="fltp", layout="mono")
    samples.sample_rate, samples.pts = SAMPLE_RATE, 0
    container.mux(stream.encode(samples))
    container.mux(stream.encode())


def encoded(
    frames: np.ndarray = HEAD,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    fps: int = FPS,
    times: Sequence[float] | None = None,
    options: dict[str, str] | None = None,
    voice: bool = True,
    kind: str = "mp4",
) -> Writer:
    """RGB frames (T, H, W, 3) by any codec, pixel format and, in seconds, times."""

    def write(path: Path) -> None:
        with av.open(str(path), "w", format=kind, options=options or {}) as container:
            stream = container.add_stream(codec, rate=fps)
            stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], pixels
            stream.codec_context.time_base = Fraction(1, 1000 if times else fps)
            if codec == "libsvtav1":
                stream.options = {"preset": "12"}
            sound = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono") if voice else None
            for index, picture in enumerate(frames):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
                frame.pts = round(times[index] * 1000) if times else index
                frame.time_base = stream.codec_context.time_base
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
            if sound:
                speak(container, sound)
        # where it may, SVT-AV1 makes its caller a real-time process, and all that comes after starves the machine
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))

    return write


def cut(share: float, **options: str) -> Writer:
    """Only the first `share` of the bytes."""

    def write(path: Path) -> None:
        encoded(options=options)(path)
        path.write_bytes(path.read_bytes()[: round(path.stat().st_size * share)])

    return write


def portrait(path: Path) -> None:
    """Lies on its side in the file, with the matrix of a quarter turn in the track's header (ISO/IEC 14496-12, tkhd)."""
    encoded(np.ascontiguousarray(np.rot90(HEAD, 1, (1, 2))))(path)
    content = bytearray(path.read_bytes())
    start = content.index(b"tkhd") + 44
    content[start : start + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, WIDTH << 16, 0, 1 << 30)
    path.write_bytes(content)


def only_sound(path: Path) -> None:
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        speak(container, stream)


def copied(path: Path) -> None:
    path.write_bytes(path.with_name("plain.000.mp4").read_bytes())


def content(data: bytes) -> Writer:
    def write(path: Path) -> None:
        path.write_bytes(data)

    return write


def seen(*spans: tuple[int, int], of: int = len(HEAD)) -> np.ndarray:
    """The head in these spans of frames, an empty scene else."""
    frames = EMPTY[np.zeros(of, int)].copy()
    for begin, end in spans:
        frames[begin:end] = HEAD[np.arange(begin, end) % len(HEAD)]
    return frames


def resized(width: int, height: int, frames: np.ndarray = HEAD) -> np.ndarray:
    return np.stack([cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA) for frame in frames])


def two_people() -> np.ndarray:
    """The same head twice; the nearer one is on the right."""
    frames = np.full((len(HEAD), HEIGHT, 2 * WIDTH, 3), 120, np.uint8)
    frames[:, : HEIGHT * 3 // 4, : WIDTH * 3 // 4] = resized(WIDTH * 3 // 4, HEIGHT * 3 // 4)
    frames[:, :, WIDTH:] = HEAD
    return frames


def uneven() -> list[float]:
    """15 frames a second at first, then 10, with a pause of a second in between."""
    steps = np.array([1 / 15] * 12 + [1.0] + [0.1] * (len(HEAD) - 13))
    return [0.0, *np.cumsum(steps[:-1]).tolist()]


GOOD: dict[str, Writer] = {
    "plain": encoded(),
    "-leading dash": encoded(HEAD[:-1]),
    'it\'s a "name" with spaces': encoded(options={"movflags": "faststart"}),
    "fps5": encoded(HEAD[::3], fps=5),
    "fps60": encoded(np.repeat(HEAD, 4, 0), fps=60),
    "uneven": encoded(times=uneven()),
    "uhd": encoded(resized(3840, 2880, HEAD[::3]), fps=5),
    "portrait": portrait,
    "two": encoded(two_people()),
    "returns": encoded(seen((0, 15), (42, 60), of=60)),
    "still": encoded(np.repeat(HEAD[:1], len(HEAD), 0)),
    "av1": encoded(codec="libsvtav1"),
    "vp9": encoded(codec="libvpx-vp9"),
    "mpeg4": encoded(codec="mpeg4"),
    "hevc": encoded(codec="libx265"),
    "matroska": encoded(kind="matroska"),
    "yuv444p": encoded(pixels="yuv444p"),
    "10bit": encoded(pixels="yuv420p10le"),
    "grey": encoded(pixels="gray"),
    "odd_size": encoded(resized(321, 241), pixels="yuv444p"),
    "mute": encoded(voice=False),
}
REFUSED: dict[str, tuple[Writer, str]] = {
    "nothing": (content(b""), "file: cannot be read"),
    "text": (content(b"This is no video.\n" * 100), "file: cannot be read"),
    "cut_at_a_tenth": (cut(0.1), "file: cannot be read"),
    "cut_in_half": (cut(0.5), "file: cannot be read"),
    "cut_in_half_after_its_index": (cut(0.5, movflags="faststart"), "file: is cut off"),
    "cut_near_the_end": (cut(0.9, movflags="faststart"), "file: is cut off"),
    "sound": (only_sound, "file: has no video stream"),
    "one_frame": (encoded(HEAD[:1]), "too short: 1 frames"),
    "a_second": (encoded(HEAD[:15]), "too short: 1.00 s"),
    "twin": (copied, "duplicate: the same bytes as"),
    "unlabelled": (encoded(HEAD[::-1]), "no annotation"),
}
NO_FACE: dict[str, Writer] = {
    "tiny": encoded(np.pad(resized(32, 24), ((0, 0), (12, 12), (16, 16), (0, 0)))),
    "nobody": encoded(EMPTY),
    "black": encoded(np.zeros_like(HEAD)),
    "leaves": encoded(seen((0, 12))),
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("odd"))
    clips = project.folder / "data/archives/odd"
    clips.mkdir()
    writers = GOOD | NO_FACE | {name: writer for name, (writer, _) in REFUSED.items()}
    for name, writer in writers.items():
        writer(clips / f"{name}.000.mp4")
    labelled = [f"{name}.000.mp4" for name in writers if name != "unlabelled"] + ["lost.000.mp4"]
    scores = {score: {clip: round(0.5 * LATTICE[score]) / LATTICE[score] for clip in labelled} for score in SCORES}
    (project.folder / "data/archives/annotation_training.pkl").write_bytes(pickle.dumps(scores))
    project.edit({"[demo]": "[fiv2]", "allow_missing: 0.0": "allow_missing: 0.9", "side: 64": "side: 112"})
    project.list_archives()
    project.dvc("repro", "flow", "audio")
    return project


def records(project: Project, stream: str) -> dict[str, Record]:
    paths = sorted((project.folder / "data" / stream).glob("*.h5"))
    return {record.clip.removesuffix(".000.mp4"): record for path in paths for record in shards.read_records(path)}


def test_each_unusable_file_is_a_row_with_its_reason(project: Project) -> None:
    table = pd.read_csv(project.folder / "data/clips.csv").set_index("clip")["reason"].fillna("")
    table.index = table.index.str.removesuffix(".000.mp4")
    assert set(table.index) == {*GOOD, *NO_FACE, *REFUSED, "lost"}
    for name, (_, reason) in REFUSED.items():
        assert table[name].startswith(reason), (name, table[name])
    assert table["lost"] == "no file in data/archives"
    others = table.drop([*REFUSED, "lost"])
    assert (others == "").all(), others[others != ""]


def test_clips_without_a_face_are_refused_and_the_others_whole(project: Project) -> None:
    flow, faces = records(project, "flow"), records(project, "faces")
    assert {name for name, record in flow.items() if record.refused} == set(NO_FACE)
    for name in NO_FACE:
        assert "faces.min_found is 50%" in flow[name].refused
    for name in GOOD:
        times, found = faces[name].arrays["times"], faces[name].arrays["found"]
        assert np.diff(times) == pytest.approx(0.2), name
        assert len(times) >= 12
        assert flow[name].arrays["flow"].shape == (len(times) - 1, 112, 112, 2)
        assert faces[name].arrays["faces"][found > 0].std((1, 2, 3)).min() > 10
        if name != "returns":
            assert (found > 0).all(), name


@pytest.mark.parametrize("name", sorted({*GOOD} - {"uneven", "returns", "two", "still", "grey"}))
def test_the_same_head_is_seen_whatever_the_file(project: Project, name: str) -> None:
    faces = records(project, "faces")
    plain, other = (faces[one].arrays["faces"][3].astype(float).mean(-1) for one in ("plain", name))
    assert np.corrcoef(plain[10:-10, 10:-10].ravel(), other[10:-10, 10:-10].ravel())[0, 1] > 0.9


def test_motion_is_as_it_was_filmed(project: Project) -> None:
    flow, faces = records(project, "flow"), records(project, "faces")
    motion = {name: record.attributes["mean_motion"] for name, record in flow.items() if not record.refused}
    assert motion["still"] < 0.1 < 0.2 < motion["plain"]
    assert len(faces["uneven"].arrays["times"]) == 1 + int(uneven()[-1] * 5)
    in_the_pause = np.abs(flow["uneven"].arrays["flow"][4:8]).mean((1, 2, 3))
    assert in_the_pause.max() <= 1
    away = np.flatnonzero(faces["returns"].arrays["found"] == 0)
    assert away.tolist() == list(range(5, 14))
    assert flow["returns"].arrays["valid"].tolist() == [not {step, step + 1} & set(away) for step in range(19)]
    assert (faces["two"].arrays["landmarks"][:, :, 0] > WIDTH).all()
    assert (faces["two"].attributes["frames_with_several_faces"]) > 6


def test_sound_is_there_or_said_not_to_be(project: Project) -> None:
    audio = records(project, "audio")
    assert {name for name, record in audio.items() if record.refused} == {"mute"}
    assert audio["mute"].refused == "audio: has no sound"
    lengths = {len(record.arrays["times"]) for name, record in audio.items() if name != "mute"}
    assert min(lengths) > 200


def test_rotation_is_read(tmp_path: Path) -> None:
    portrait(tmp_path / "a.mp4")
    probe = probe_video(tmp_path / "a.mp4")
    assert (probe.width, probe.height) == (WIDTH, HEIGHT)


def test_new_clips_cost_their_own_shards(project: Project) -> None:
    (project.folder / "logs/faces.log").unlink()
    before = {path.name: path.stat().st_ino for path in (project.folder / "data/.work/flow").iterdir()}
    new = project.folder / "data/archives/training80_90"
    new.mkdir()
    encoded(HEAD[::-1])(new / "lost.000.mp4")
    project.list_archives()
    project.dvc("repro", "flow", "audio")
    after = {path.name: path.stat().st_ino for path in (project.folder / "data/.work/flow").iterdir()}
    assert len(set(after.items()) - set(before.items())) == 1
    assert before.items() < after.items()
    assert "training80_90: 1 clips, 0 rejected" in (project.folder / "logs/faces.log").read_text()
    assert (project.folder / "logs/faces.log").read_text().count(" clips, ") == 1
    assert not records(project, "flow")["lost"].refused
