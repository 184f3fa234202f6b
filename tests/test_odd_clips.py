"""A corpus of unusual, damaged and hostile clips through the stages download, frames, audio, faces and flow."""

import logging
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
from tests.stage_runs import StageRuns

FPS, SECONDS = 15, 2.4
HEAD, VOICE = render(Identity(3), Performance(0.0, 1.2, 0.5, 1), SECONDS, FPS)
EMPTY = np.broadcast_to(
    cv2.GaussianBlur(np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8), (0, 0), 3), HEAD.shape
)
Writer = Callable[[Path], None]


def write_voice(container: av.container.OutputContainer, stream: av.AudioStream) -> None:
    """Write the voice as one audio stream."""
    samples = av.AudioFrame.from_ndarray(VOICE.astype(np.float32)[None], format="fltp", layout="mono")
    samples.sample_rate, samples.pts = SAMPLE_RATE, 0
    container.mux(stream.encode(samples))
    container.mux(stream.encode())


def video_writer(
    frames: np.ndarray = HEAD,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    fps: int = FPS,
    times: Sequence[float] | None = None,
    options: dict[str, str] | None = None,
    voice: bool = True,
    kind: str = "mp4",
) -> Writer:
    """Return a writer of RGB frames (T, H, W, 3) with any codec, pixel format and times in seconds."""

    def write(path: Path) -> None:
        with av.open(str(path), "w", format=kind, options=options or {}) as container:
            stream = container.add_stream(codec, rate=fps)
            stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], pixels
            stream.codec_context.time_base = Fraction(1, 1000 if times else fps)
            if codec == "libsvtav1":
                stream.options = {"preset": "12"}
            audio_stream = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono") if voice else None
            for index, image in enumerate(frames):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
                frame.pts = round(times[index] * 1000) if times else index
                frame.time_base = stream.codec_context.time_base
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
            if audio_stream:
                write_voice(container, audio_stream)
        # if permitted, SVT-AV1 makes its caller a real-time process, which would starve all other processes
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))

    return write


def truncated_writer(fraction: float, **options: str) -> Writer:
    """Return a writer that keeps only this fraction of the bytes, from the start."""

    def write(path: Path) -> None:
        video_writer(options=options)(path)
        path.write_bytes(path.read_bytes()[: round(path.stat().st_size * fraction)])

    return write


def write_portrait(path: Path) -> None:
    """Write a rotated video whose track header has the matrix of a quarter turn (ISO/IEC 14496-12, tkhd)."""
    video_writer(np.ascontiguousarray(np.rot90(HEAD, 1, (1, 2))))(path)
    content = bytearray(path.read_bytes())
    start = content.index(b"tkhd") + 44
    content[start : start + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, WIDTH << 16, 0, 1 << 30)
    path.write_bytes(content)


def write_audio_only(path: Path) -> None:
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        write_voice(container, stream)


def copy_plain_clip(path: Path) -> None:
    path.write_bytes(path.with_name("plain.000.mp4").read_bytes())


def bytes_writer(data: bytes) -> Writer:
    def write(path: Path) -> None:
        path.write_bytes(data)

    return write


def show_head_in(*spans: tuple[int, int], length: int = len(HEAD)) -> np.ndarray:
    """Return frames with the head in these spans and an empty scene elsewhere."""
    frames = EMPTY[np.zeros(length, int)].copy()
    for begin, end in spans:
        frames[begin:end] = HEAD[np.arange(begin, end) % len(HEAD)]
    return frames


def resize(width: int, height: int, frames: np.ndarray = HEAD) -> np.ndarray:
    return np.stack([cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA) for frame in frames])


def make_two_people() -> np.ndarray:
    """Return frames with the same head twice; the nearer head is on the right."""
    frames = np.full((len(HEAD), HEIGHT, 2 * WIDTH, 3), 120, np.uint8)
    frames[:, : HEIGHT * 3 // 4, : WIDTH * 3 // 4] = resize(WIDTH * 3 // 4, HEIGHT * 3 // 4)
    frames[:, :, WIDTH:] = HEAD
    return frames


def uneven_times() -> list[float]:
    """Return times of 15 frames per second, then a pause of one second, then 10 frames per second."""
    steps = np.array([1 / 15] * 12 + [1.0] + [0.1] * (len(HEAD) - 13))
    return [0.0, *np.cumsum(steps[:-1]).tolist()]


GOOD: dict[str, Writer] = {
    "plain": video_writer(),
    "-leading dash": video_writer(HEAD[:-1]),
    'it\'s a "name" with spaces': video_writer(options={"movflags": "faststart"}),
    "fps5": video_writer(HEAD[::3], fps=5),
    "fps60": video_writer(np.repeat(HEAD, 4, 0), fps=60),
    "uneven": video_writer(times=uneven_times()),
    "uhd": video_writer(resize(3840, 2880, HEAD[::3]), fps=5),
    "portrait": write_portrait,
    "two": video_writer(make_two_people()),
    "returns": video_writer(show_head_in((0, 15), (42, 60), length=60)),
    "still": video_writer(np.repeat(HEAD[:1], len(HEAD), 0)),
    "av1": video_writer(codec="libsvtav1"),
    "vp9": video_writer(codec="libvpx-vp9"),
    "mpeg4": video_writer(codec="mpeg4"),
    "hevc": video_writer(codec="libx265"),
    "matroska": video_writer(kind="matroska"),
    "yuv444p": video_writer(pixels="yuv444p"),
    "10bit": video_writer(pixels="yuv420p10le"),
    "grey": video_writer(pixels="gray"),
    "odd_size": video_writer(resize(321, 241), pixels="yuv444p"),
    "mute": video_writer(voice=False),
}
REJECTED: dict[str, tuple[Writer, str]] = {
    "nothing": (bytes_writer(b""), "file: cannot be read"),
    "text": (bytes_writer(b"Not a video.\n" * 100), "file: cannot be read"),
    "cut_at_a_tenth": (truncated_writer(0.1), "file: cannot be read"),
    "cut_in_half": (truncated_writer(0.5), "file: cannot be read"),
    "cut_in_half_after_its_index": (truncated_writer(0.5, movflags="faststart"), "file: is cut off"),
    "cut_near_the_end": (truncated_writer(0.9, movflags="faststart"), "file: is cut off"),
    "sound": (write_audio_only, "file: has no video stream"),
    "one_frame": (video_writer(HEAD[:1]), "too short: 1 frames"),
    "a_second": (video_writer(HEAD[:15]), "too short: 1.00 s"),
    "twin": (copy_plain_clip, "duplicate: the same bytes as"),
    "unlabelled": (video_writer(HEAD[::-1]), "no annotation"),
}
NO_FACE: dict[str, Writer] = {
    "tiny": video_writer(np.pad(resize(32, 24), ((0, 0), (12, 12), (16, 16), (0, 0)))),
    "empty_scene": video_writer(EMPTY),
    "black": video_writer(np.zeros_like(HEAD)),
    "leaves": video_writer(show_head_in((0, 12))),
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> StageRuns:
    project = StageRuns(tmp_path_factory.mktemp("odd"))
    clips = project.folder / "data/archives/odd"
    clips.mkdir()
    writers = GOOD | NO_FACE | {name: writer for name, (writer, _) in REJECTED.items()}
    for name, writer in writers.items():
        writer(clips / f"{name}.000.mp4")
    labelled = [f"{name}.000.mp4" for name in writers if name != "unlabelled"] + ["lost.000.mp4"]
    scores = {score: {clip: round(0.5 * LATTICE[score]) / LATTICE[score] for clip in labelled} for score in SCORES}
    (project.folder / "data/archives/annotation_training.pkl").write_bytes(pickle.dumps(scores))
    project.edit({"[demo]": "[fiv2]", "allow_missing: 0.0": "allow_missing: 0.9", "side: 64": "side: 112"})
    project.list_archives()
    project.run_stages(last="flow")
    return project


def read_records(project: StageRuns, stream: str) -> dict[str, Record]:
    paths = sorted((project.folder / "data" / stream).glob("*.h5"))
    return {record.clip.removesuffix(".000.mp4"): record for path in paths for record in shards.read_records(path)}


def test_each_unusable_file_has_a_row_with_its_reason(project: StageRuns) -> None:
    table = pd.read_csv(project.folder / "data/clips.csv").set_index("clip")["reason"].fillna("")
    table.index = table.index.str.removesuffix(".000.mp4")
    assert set(table.index) == {*GOOD, *NO_FACE, *REJECTED, "lost"}
    for name, (_, reason) in REJECTED.items():
        assert table[name].startswith(reason), (name, table[name])
    assert table["lost"] == "no file in data/archives"
    others = table.drop([*REJECTED, "lost"])
    assert (others == "").all(), others[others != ""]


def test_clips_without_a_face_are_rejected_in_flow(project: StageRuns) -> None:
    flow, faces = read_records(project, "flow"), read_records(project, "faces")
    assert {name for name, record in flow.items() if record.rejected} == set(NO_FACE)
    for name in NO_FACE:
        assert "faces.min_found is 50%" in flow[name].rejected
    for name in GOOD:
        times, is_found = faces[name].arrays["times"], faces[name].arrays["found"]
        assert np.diff(times) == pytest.approx(0.2), name
        assert len(times) >= 12
        assert flow[name].arrays["flow"].shape == (len(times) - 1, 112, 112, 2)
        assert faces[name].arrays["faces"][is_found > 0].std((1, 2, 3)).min() > 10
        if name != "returns":
            assert (is_found > 0).all(), name


@pytest.mark.parametrize("name", sorted({*GOOD} - {"uneven", "returns", "two", "still", "grey"}))
def test_same_head_is_aligned_in_each_file_format(project: StageRuns, name: str) -> None:
    faces = read_records(project, "faces")
    plain, other = (faces[clip].arrays["faces"][3].astype(float).mean(-1) for clip in ("plain", name))
    assert np.corrcoef(plain[10:-10, 10:-10].ravel(), other[10:-10, 10:-10].ravel())[0, 1] > 0.9


def test_motion_and_tracking_match_the_videos(project: StageRuns) -> None:
    flow, faces = read_records(project, "flow"), read_records(project, "faces")
    motion = {name: record.attributes["mean_motion"] for name, record in flow.items() if not record.rejected}
    assert motion["still"] < 0.1 < 0.2 < motion["plain"]
    assert len(faces["uneven"].arrays["times"]) == 1 + int(uneven_times()[-1] * 5)
    in_the_pause = np.abs(flow["uneven"].arrays["flow"][4:8]).mean((1, 2, 3))
    assert in_the_pause.max() <= 1
    absent_steps = np.flatnonzero(faces["returns"].arrays["found"] == 0)
    assert absent_steps.tolist() == list(range(5, 14))
    assert flow["returns"].arrays["valid"].tolist() == [not {step, step + 1} & set(absent_steps) for step in range(19)]
    assert (faces["two"].arrays["landmarks"][:, :, 0] > WIDTH).all()
    assert (faces["two"].attributes["frames_with_several_faces"]) > 6


def test_audio_exists_except_in_the_silent_clip(project: StageRuns) -> None:
    audio = read_records(project, "audio")
    assert {name for name, record in audio.items() if record.rejected} == {"mute"}
    assert audio["mute"].rejected == "audio: has no sound"
    lengths = {len(record.arrays["times"]) for name, record in audio.items() if name != "mute"}
    assert min(lengths) > 200


def test_probe_video_reads_the_rotation(tmp_path: Path) -> None:
    write_portrait(tmp_path / "a.mp4")
    probe = probe_video(tmp_path / "a.mp4")
    assert (probe.width, probe.height) == (WIDTH, HEIGHT)


def test_new_clips_rebuild_only_their_shards(project: StageRuns, caplog: pytest.LogCaptureFixture) -> None:
    before = {path.name: path.stat().st_ino for path in (project.folder / "data/.work/flow").iterdir()}
    new = project.folder / "data/archives/training80_90"
    new.mkdir()
    video_writer(HEAD[::-1])(new / "lost.000.mp4")
    project.list_archives()
    with caplog.at_level(logging.INFO, logger="faces"):
        project.run_stages(last="flow")
    after = {path.name: path.stat().st_ino for path in (project.folder / "data/.work/flow").iterdir()}
    assert len(set(after.items()) - set(before.items())) == 1
    assert before.items() < after.items()
    lines = [record.getMessage() for record in caplog.records if record.name == "faces"]
    (line,) = (line for line in lines if " clips, " in line)
    assert line.startswith("fiv2-training80_90: 1 clips, 0 rejected, ")
    assert not read_records(project, "flow")["lost"].rejected
