"""Verification, frames and audio agree about what a video shows and when, for unusual files too."""

import gc
import re
import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from lib.core.shards import Record
from lib.media import jpeg_frames
from lib.media.audio import read_audio
from lib.media.frames import probe_video, read_frames
from lib.media.jpeg_frames import sample_frames, sample_windows
from lib.media.packets import VideoError, VideoTrack, describe_cut
from lib.media.windows import read_windows
from lib.sources import _check as check
from lib.sources import base
from lib.sources.fiv2 import LATTICE, SCORES
from lib.streams import audio, frames
from lib.streams.base import Raw
from lib.streams.faces import align
from lib.streams.faces.detect import Detector
from lib.streams.faces.mtcnn import load_networks
from tests.video_files import (
    RATE,
    Track,
    find_packets,
    make_tone,
    overwrite,
    read_time,
    resize_frames,
    timed_frames,
    write_video_file,
)

LOW_DELAY = {"bf": "0", "sc_threshold": "0", "g": "30"}
FULL_VIDEO = 4.0, 60, 20
"""Seconds, frames and samples of `timed_frames()`."""


def summarise_frames(path: Path) -> tuple[float, int, int]:
    """Return the duration, the number of frames and the number of samples. Check that each sample shows its time."""
    probe, sampled = probe_video(path), list(read_frames(path, 5))
    first = read_time(sampled[0][1])
    for seconds, image in sampled:
        assert read_time(image) - first == pytest.approx(seconds, abs=0.08)
        assert image.shape[:2] == (probe.height, probe.width)
    return round(probe.duration, 2), probe.frames, len(sampled)


def measure_loudness(path: Path) -> tuple[float, np.ndarray]:
    """Return the start of the audio in seconds and its loudness in each tenth of a second."""
    start, samples = read_audio(path, RATE)
    samples = samples[: len(samples) // 1600 * 1600]
    return start, np.sqrt((samples.reshape(-1, 1600) ** 2).mean(1))


def test_ordinary_clip_has_its_frames_and_audio(tmp_path: Path) -> None:
    path = write_video_file(
        tmp_path / "a.mp4", Track(timed_frames(), options={"g": "60", "bf": "2"}), Track(make_tone(4))
    )
    assert summarise_frames(path) == FULL_VIDEO
    start, loud = measure_loudness(path)
    assert start == pytest.approx(0, abs=0.01)
    assert loud[:40] == pytest.approx(0.3 / 2**0.5, abs=0.03)


@pytest.mark.parametrize("kind", ["mp4", "mpegts", "matroska"])
@pytest.mark.parametrize("options", [LOW_DELAY, {"g": "250", "bf": "3"}, {"g": "12", "bf": "2", "flags": "-cgop"}])
def test_span_of_a_video_equals_that_part_of_the_video(tmp_path: Path, kind: str, options: dict[str, str]) -> None:
    frames, voice = timed_frames(90), np.concatenate([make_tone(2.0), np.zeros(RATE), make_tone(3.0)])
    path = write_video_file(tmp_path / "a", Track(frames, options=options), Track(voice), kind=kind)
    all_samples = list(read_frames(path, 60))  # each frame is read four times
    for begin, end in ((0.0, 2.0), (1.3, 2.5), (4.05, 5.97)):
        part, probe = list(read_frames(path, 5, span=(begin, end))), probe_video(path, (begin, end))
        assert [seconds for seconds, _ in part] == [index / 5 for index in range(len(part))]
        assert len(part) == round(np.ceil(round((end - begin) * 5, 6)))
        for seconds, image in part:
            index = int((begin + seconds) * 60 + 1e-6)
            assert np.array_equal(image, all_samples[index][1]) or np.array_equal(image, all_samples[index - 1][1])
        assert probe.duration == pytest.approx(end - begin, abs=0.07)
        assert probe.frames == pytest.approx((end - begin) * 15, abs=1.5)
        start, samples = read_audio(path, RATE, (begin, end))
        assert start == pytest.approx(0, abs=0.001)
        assert len(samples) / RATE == pytest.approx(end - begin, abs=0.001)
        first, all_audio = read_audio(path, RATE)
        offset = round((begin - first) * RATE)
        assert np.abs(samples[400:-400] - all_audio[offset:][: len(samples)][400:-400]).max() < 0.1


def test_last_frame_of_a_span_lasts_until_its_end(tmp_path: Path) -> None:
    path = write_video_file(tmp_path / "a.mp4", Track(timed_frames(4, 1), times=[0, 1, 2, 5]))
    times = [round(read_time(image)) for _, image in read_frames(path, 1, span=(1.5, 4.5))]
    assert times == [1, 2, 2]


def test_span_beyond_the_end_is_rejected(tmp_path: Path) -> None:
    path = write_video_file(tmp_path / "a.mp4", Track(timed_frames()), Track(make_tone(4)))
    assert probe_video(path, (2.0, 4.9)).duration == pytest.approx(2, abs=0.1)
    with pytest.raises(VideoError, match=r"^ends at 5\.5 s, its video at 3\.9 s$"):
        probe_video(path, (2.0, 5.5))
    with pytest.raises(VideoError, match=r"^begins at 4\.5 s, after the end of its video$"):
        probe_video(path, (4.5, 5.0))


@pytest.mark.parametrize(
    ("kind", "codec", "options"),
    [
        ("mp4", "libx264", {"movflags": "faststart"}),
        ("matroska", "libx264", {}),
        ("avi", "mpeg4", {}),
        ("flv", "flv1", {}),
    ],
)
def test_file_that_ends_before_its_header_says_is_cut(
    tmp_path: Path, kind: str, codec: str, options: dict[str, str]
) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (90, 120, 160, 3), dtype=np.uint8)
    path = write_video_file(tmp_path / "a", Track(noise, codec=codec, options={"g": "15"}), kind=kind, options=options)
    assert describe_cut(path) == ""
    content = path.read_bytes()
    path.write_bytes(content[: round(0.6 * len(content))])
    text = describe_cut(path)
    ((available, promised),) = re.findall(
        r"^the file ends after (.*) of (.*) s: was the recording or download cut off\?$", text
    )
    assert float(available) == pytest.approx(3.6, abs=0.6)
    assert float(promised) == pytest.approx(6, abs=0.1)


def test_frames_keep_the_first_size_if_it_changes(tmp_path: Path) -> None:
    first = write_video_file(tmp_path / "1.ts", Track(timed_frames(30), options=LOW_DELAY), kind="mpegts")
    second = write_video_file(
        tmp_path / "2.ts",
        Track(timed_frames(30, width=320, height=240, begin=2), begin=2, options=LOW_DELAY),
        kind="mpegts",
    )
    path = tmp_path / "a.mp4"
    path.write_bytes(first.read_bytes() + second.read_bytes())
    assert summarise_frames(path) == FULL_VIDEO
    assert frames.decode_all_frames(frames.sample_frames(Raw("a", path, None), 5, 640, 90)).shape == (20, 120, 160, 3)


def test_video_without_time_stamps_uses_its_frame_rate(tmp_path: Path) -> None:
    assert (
        summarise_frames(write_video_file(tmp_path / "a.mp4", Track(timed_frames(), options=LOW_DELAY), kind="h264"))
        == FULL_VIDEO
    )


def test_missing_first_time_stamps_are_inferred(tmp_path: Path) -> None:
    tracks = Track(timed_frames(), begin=-1.5, options=LOW_DELAY), Track(make_tone(4), begin=-1.5)
    path = write_video_file(tmp_path / "a.mkv", *tracks, kind="matroska", options={"avoid_negative_ts": "disabled"})
    with av.open(str(path)) as container:
        assert any(frame.pts is None for frame in container.decode(video=0))
    assert summarise_frames(path) == FULL_VIDEO
    assert measure_loudness(path)[0] == pytest.approx(0, abs=0.05)


def test_edit_list_hides_frames_at_the_start(tmp_path: Path) -> None:
    options = {"g": "80", "bf": "2", "sc_threshold": "0"}
    path = write_video_file(
        tmp_path / "a.mp4", Track(timed_frames(80), begin=-4 / 3, options=options), Track(make_tone(5.33), begin=-4 / 3)
    )
    assert summarise_frames(path) == FULL_VIDEO
    assert read_time(next(read_frames(path, 5))[1]) == pytest.approx(4 / 3, abs=0.05)
    assert measure_loudness(path)[0] == pytest.approx(0, abs=0.05)


def test_edit_list_hides_frames_at_the_end(tmp_path: Path) -> None:
    path = write_video_file(tmp_path / "a.mp4", Track(timed_frames(), options=LOW_DELAY | {"g": "10"}))
    content = path.read_bytes()
    position = content.index(b"elst") + 12
    assert struct.unpack(">I", content[position : position + 4]) == (4000,)
    overwrite(path, (position, struct.pack(">I", 2000)))
    assert summarise_frames(path) == (2.0, 30, 10)


def test_video_cut_in_a_gop_starts_at_its_first_shown_frame(tmp_path: Path) -> None:
    video = Track(timed_frames(90), options=LOW_DELAY, keep=lambda number, _: number >= 13)
    audio_track = Track(make_tone(6), keep=lambda _, packet: packet.pts >= 0.8 * RATE)
    path = write_video_file(tmp_path / "a.ts", video, audio_track, kind="mpegts")
    assert summarise_frames(path) == FULL_VIDEO
    assert read_time(next(read_frames(path, 5))[1]) == pytest.approx(2, abs=0.05)
    assert measure_loudness(path)[0] == pytest.approx(0.8 - 2, abs=0.1)


@pytest.mark.parametrize("kind", ["mp4", "matroska"])
def test_gap_in_the_audio_becomes_silence(tmp_path: Path, kind: str) -> None:
    lost = Track(make_tone(4), keep=lambda _, packet: not 0.96 <= float(packet.pts * packet.time_base) < 2.56)
    start, loud = measure_loudness(write_video_file(tmp_path / "a.mp4", Track(timed_frames()), lost, kind=kind))
    assert start == pytest.approx(0, abs=0.01)
    quiet = np.flatnonzero(loud[:40] < 0.1)
    assert quiet.tolist() == pytest.approx(list(range(10, 25)), abs=1)
    assert loud[26:39] == pytest.approx(0.3 / 2**0.5, abs=0.03)


def test_nan_samples_become_silence(tmp_path: Path) -> None:
    samples = make_tone(4)
    samples[RATE : RATE + 1600] = np.nan
    samples[2 * RATE] = np.inf
    path = write_video_file(
        tmp_path / "a.mkv", Track(timed_frames()), Track(samples, codec="pcm_f32le"), kind="matroska"
    )
    _, loud = measure_loudness(path)
    assert np.flatnonzero(loud < 0.1).tolist() == [10]
    settings = {"sample_rate": RATE, "window": 0.025, "step": 0.01, "mels": 64, "mfcc": 24}
    more = {"filter_rate": None, "edges": "inside", "top_db": None}
    record = audio.compute_features(
        Raw("a", path, None), audio.Settings.model_validate({"enabled": True} | settings | more)
    )
    assert all(np.isfinite(array).all() for array in record.arrays.values())


@pytest.mark.parametrize("factor", [10.0, 1e30])
def test_samples_beyond_full_scale_are_clipped(tmp_path: Path, factor: float) -> None:
    path = write_video_file(
        tmp_path / "a.mkv", Track(timed_frames()), Track(factor * make_tone(4), codec="pcm_f32le"), kind="matroska"
    )
    assert read_audio(path, RATE)[1] == pytest.approx(np.clip(factor * make_tone(4), -1, 1), abs=1e-6)


def test_audio_continues_if_the_sample_rate_changes(tmp_path: Path) -> None:
    path = tmp_path / "a.ts"
    content = b""
    for begin, rate in (0, RATE), (2, 48_000):
        video = Track(timed_frames(30, begin=begin), begin=begin, options=LOW_DELAY)
        audio_track = Track(make_tone(2, rate=rate), begin=begin, rate=rate)
        content += write_video_file(path, video, audio_track, kind="mpegts").read_bytes()
    path.write_bytes(content)
    start, samples = read_audio(path, RATE)
    assert start + len(samples) / RATE == pytest.approx(4, abs=0.1)
    for second in (1, 3):  # a tone of 440 Hz at both sample rates
        spectrum = np.abs(np.fft.rfft(samples[second * RATE - 8000 : second * RATE + 8000]))
        assert spectrum.argmax() == 440


def test_audio_ends_with_a_shorter_video(tmp_path: Path) -> None:
    path = write_video_file(tmp_path / "a.mp4", Track(timed_frames()), Track(make_tone(20)))
    assert len(read_audio(path, RATE)[1]) / RATE == pytest.approx(4, abs=0.05)


def test_leaping_time_stamps_are_rejected(tmp_path: Path) -> None:
    parts = [
        write_video_file(tmp_path / f"{begin}.ts", Track(timed_frames(30, begin=begin)), kind="mpegts")
        for begin in (0, 2)
    ]
    backward = tmp_path / "again.ts"
    backward.write_bytes(b"".join(part.read_bytes() for part in parts))
    forward = write_video_file(
        tmp_path / "ahead.mp4",
        Track(timed_frames(), times=[index / 15 + (7200 if index > 29 else 0) for index in range(60)]),
    )
    for path, message in (backward, r"leap by -1\.\d s at 1\.9 s"), (forward, r"leap by 7200\.1 s at 1\.9 s"):
        with pytest.raises(VideoError, match=message):
            probe_video(path)
        with pytest.raises(VideoError, match=message):
            list(read_frames(path, 5))


def test_non_square_pixels_keep_the_displayed_shape(tmp_path: Path) -> None:
    for aspect, size in (Fraction(2), (120, 320)), (Fraction(1, 2), (120, 80)):
        path = write_video_file(tmp_path / "a.mp4", Track(timed_frames(), aspect=aspect))
        assert summarise_frames(path) == FULL_VIDEO
        assert next(read_frames(path, 5))[1].shape[:2] == size
    assert next(read_frames(path, 5, 60))[1].shape[:2] == (60, 40)


TRANSFORMS = {  # a, b, c, d of the display matrix, and its effect on an image
    (1, 0, 0, 1): lambda picture: picture,
    (-1, 0, 0, 1): lambda picture: picture[:, ::-1],
    (1, 0, 0, -1): lambda picture: picture[::-1],
    (-1, 0, 0, -1): lambda picture: picture[::-1, ::-1],
    (0, 1, -1, 0): lambda picture: cv2.rotate(picture, cv2.ROTATE_90_CLOCKWISE),
    (0, -1, 1, 0): lambda picture: cv2.rotate(picture, cv2.ROTATE_90_COUNTERCLOCKWISE),
    (0, 1, 1, 0): lambda picture: picture.transpose(1, 0, 2),
    (0, -1, -1, 0): lambda picture: picture.transpose(1, 0, 2)[::-1, ::-1],
}


@pytest.mark.parametrize("turn", TRANSFORMS)
def test_display_matrix_rotates_and_mirrors_frames(tmp_path: Path, turn: tuple[int, ...]) -> None:
    corner = np.full((20, 120, 160, 3), 100, np.uint8)
    corner[:, 10:40, 10:70] = 200
    path = write_video_file(tmp_path / "a.mp4", Track(corner, options={"crf": "5"}))
    stored = next(read_frames(path, 5))[1]
    position = path.read_bytes().index(b"tkhd") + 44
    a, b, c, d = (element << 16 for element in turn)
    overwrite(path, (position, struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)))
    image = next(read_frames(path, 5))[1]
    expected = TRANSFORMS[turn](stored)
    assert image.shape == expected.shape
    assert (image == expected).all()
    probe = probe_video(path)
    assert (probe.height, probe.width) == expected.shape[:2]


def test_one_field_of_interlaced_video_is_shown(tmp_path: Path) -> None:
    frames = np.full((40, 120, 160, 3), 30, np.uint8)
    for index, image in enumerate(frames):
        image[:, 3 * index : 3 * index + 30] = 220
    woven = frames[::2].copy()
    woven[:, 1::2] = frames[1::2, 1::2]

    def interlaced(stream: object) -> None:
        stream.codec_context.flags |= 1 << 18 | 1 << 29  # type: ignore[attr-defined]

    track = Track(woven, codec="mpeg2video", options={"b": "8000000"}, prepare=interlaced)
    path = write_video_file(tmp_path / "a.mpg", track, kind="mpeg")
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).interlaced_frame
    for _, image in read_frames(path, 5):
        combing = np.abs(np.diff(image[..., 1].astype(float), axis=0)).mean()
        assert combing < 1.5


def test_frames_smaller_than_a_face_are_rejected(tmp_path: Path) -> None:
    aligner = align.Aligner(64, Detector(40, load_networks(torch.device("cpu"))), 0.5, 1.0, 1.0)
    for width, height in (32, 32), (320, 16):
        path = write_video_file(tmp_path / "a.mp4", Track(resize_frames(timed_frames(20), width, height)))
        record = aligner(frames.sample_frames(Raw("a", path, None), 5, 640, 90))
        assert record.rejected.startswith("faces: found in 0% of the frames")


def test_container_flags_choose_the_video_stream(tmp_path: Path) -> None:
    cover = Track(timed_frames(1, width=640, height=480), codec="mjpeg", pixels="yuvj420p", disposition=1024)
    assert summarise_frames(write_video_file(tmp_path / "cover.mp4", Track(timed_frames()), cover)) == FULL_VIDEO
    screen = Track(timed_frames(30, width=640, height=480, begin=1))
    for order in (1, -1):
        tracks = [Track(timed_frames(), disposition=1), screen][::order]
        path = write_video_file(tmp_path / "default.mkv", *tracks, kind="matroska")
        assert summarise_frames(path) == FULL_VIDEO
    assert (
        summarise_frames(write_video_file(tmp_path / "neither.mkv", Track(timed_frames()), screen, kind="matroska"))[1]
        == 30
    )


def test_container_flags_choose_the_audio_stream(tmp_path: Path) -> None:
    for first, begins in (0, 0.1), (1, 0.3):
        tracks = Track(make_tone(4) / 3, disposition=first), Track(make_tone(4), disposition=1 - first)
        path = write_video_file(tmp_path / "a.mkv", Track(timed_frames()), *tracks, kind="matroska")
        assert measure_loudness(path)[1][5:35].mean() == pytest.approx(
            (0.3 if not first else 0.1) / 2**0.5, abs=0.03
        ), begins


def test_scripts_and_images_are_not_videos(tmp_path: Path) -> None:
    write_video_file(tmp_path / "other.mp4", Track(timed_frames()))
    (tmp_path / "script.mp4").write_text("ffconcat version 1.0\nfile 'other.mp4'\n")
    cv2.imwrite(str(tmp_path / "picture.png"), timed_frames(1)[0])
    (tmp_path / "picture.png").rename(tmp_path / "picture.mp4")
    for name in ("script", "picture"):
        for read in (probe_video, lambda path: list(read_frames(path, 5)), lambda path: read_audio(path, RATE)):
            with pytest.raises(VideoError, match=r"^is not a video$"):
                read(tmp_path / f"{name}.mp4")


def test_damaged_video_packet_costs_one_frame(tmp_path: Path) -> None:
    path = write_video_file(tmp_path / "a.mp4", Track(timed_frames(), options=LOW_DELAY), Track(make_tone(4)))
    position, size = find_packets(path)[40]
    overwrite(path, (position, bytes(size)))
    probe = probe_video(path)
    assert (round(probe.duration, 2), probe.frames, probe.damaged) == (4.0, 59, 1)
    assert len(list(read_frames(path, 5))) == 20


def test_damaged_audio_packet_becomes_a_gap(tmp_path: Path) -> None:
    path = write_video_file(tmp_path / "a.mp4", Track(timed_frames()), Track(make_tone(4)))
    position, size = find_packets(path, 1)[30]
    overwrite(path, (position, b"\xff" * size))
    start, samples = read_audio(path, RATE)
    assert start == pytest.approx(0, abs=0.01)
    undamaged = read_audio(write_video_file(tmp_path / "b.mp4", Track(timed_frames()), Track(make_tone(4))), RATE)[1]
    assert len(samples) == len(undamaged)
    difference_times = np.flatnonzero(np.abs(samples - undamaged) > 0.05) / RATE
    assert 1.8 < difference_times.min() < difference_times.max() < 2.2


def write_damaged_video(path: Path, packets: range, options: dict[str, str]) -> Path:
    """Write a video whose given packets are noise from byte 20 on. Decoders conceal this and later frames are smeared."""
    rng = np.random.default_rng(0)
    wide = cv2.GaussianBlur(rng.integers(0, 255, (240, 480, 3), np.uint8), (0, 0), 3)
    frames = np.stack([wide[:, 2 * step : 2 * step + 320] for step in range(60)])
    write_video_file(path, Track(frames, options={"sc_threshold": "0", **options}))
    packet_places = find_packets(path)
    return overwrite(
        path, *((packet_places[number][0] + 20, rng.bytes(packet_places[number][1] - 20)) for number in packets)
    )


def test_concealed_damage_is_counted_and_limited(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    names = {"whole": range(0), "end": range(17, 18), "early": range(20, 36, 4)}
    for name, packets in names.items():
        write_damaged_video(tmp_path / "raw" / f"{name}.000.mp4", packets, {"bf": "0", "g": "20"})
    files = [Path("raw", f"{name}.000.mp4") for name in names]
    rows = pd.DataFrame({"clip": [file.name for file in files], "video": "v", "split": "training", "shard": "raw"})
    rows = rows.assign(file=[str(file) for file in files], **{score: 40 / LATTICE[score] for score in SCORES})
    corpus = check.Corpus("mine", base.load("fiv2"), tmp_path, files, rows)
    table = check.build_clip_table([corpus], True, 2.0, 10, 600, 0.1).set_index("clip")
    assert table["damaged"].to_dict() == {"whole.000.mp4": 0, "end.000.mp4": 3, "early.000.mp4": 20}
    assert table["reason"].to_dict() == {
        "whole.000.mp4": "",
        "end.000.mp4": "",
        "early.000.mp4": "damaged: 20 of 60 frames, download.max_damaged is 0.1",
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [{"bf": "0", "g": "60"}, {"bf": "0", "g": "15"}, {"bf": "2", "b-pyramid": "none", "g": "60"}],
)
def test_frames_that_depend_on_damaged_ones_are_counted(tmp_path: Path, options: dict[str, str]) -> None:
    intact, damaged = tmp_path / "whole.mp4", tmp_path / "damaged.mp4"
    write_damaged_video(intact, range(0), options)
    write_damaged_video(damaged, range(20, 23), options)
    images = [np.stack([image for _, image in read_frames(path, 15)]).astype(float) for path in (intact, damaged)]
    smeared = np.abs(images[0] - images[1]).mean((1, 2, 3)) > 0.3
    assert smeared.sum() >= 2
    assert probe_video(damaged).damaged == pytest.approx(smeared.sum(), abs=2)


def test_aligner_decodes_one_batch_of_frames_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = frames.sample_frames(
        Raw("a", write_video_file(tmp_path / "a.mp4", Track(timed_frames(90))), None), 15, 640, 90
    )
    decode_frames, batch_sizes = jpeg_frames.decode_frames, []

    def count_frames(record: Record, chosen: np.ndarray) -> list[np.ndarray]:
        batch_sizes.append(len(chosen))
        return decode_frames(record, chosen)

    monkeypatch.setattr(jpeg_frames, "decode_frames", count_frames)
    align.Aligner(64, Detector(40, load_networks(torch.device("cpu"))), 0.0, 1.0, 1.0)(record)
    assert max(batch_sizes) == 32
    assert sum(batch_sizes[: -(-90 // 32)]) == 90


@pytest.mark.slow
def test_read_frames_releases_shown_frames(tmp_path: Path) -> None:
    path = write_video_file(tmp_path / "a.mp4", Track(timed_frames(90)))
    gc.collect()
    gc.disable()  # only the collector would free them: gigabytes for a long video
    try:
        for _ in read_frames(path, 15, 640, (0.0, 5.0)):
            frames_in_memory = sum(type(item) is av.VideoFrame for item in gc.get_objects())
            assert frames_in_memory <= 4
    finally:
        gc.enable()


def test_clean_aperture_crops_the_frames(tmp_path: Path) -> None:
    sides = np.full((60, 120, 160, 3), 200, np.uint8)
    sides[:, 30:90, 40:120] = timed_frames(60, width=80, height=60)
    path = write_video_file(tmp_path / "a.mp4", Track(sides, options={"crf": "5", "bf": "0"}))
    assert next(read_frames(path, 5))[1].shape == (120, 160, 3)
    content = bytearray(path.read_bytes())
    clap = struct.pack(">I4s8I", 40, b"clap", 80, 1, 60, 1, 0, 1, 0, 1)
    position = content.index(b"avc1", content.index(b"stsd")) - 4
    size = struct.unpack(">I", content[position : position + 4])[0]
    description_position = content.index(b"stsd") - 4
    box_positions = [content.index(name) - 4 for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl")] + [
        description_position,
        position,
    ]
    for box in box_positions:
        content[box : box + 4] = struct.pack(">I", struct.unpack(">I", content[box : box + 4])[0] + len(clap))
    content[position + size : position + size] = clap
    path.write_bytes(content)  # the index follows the frames, whose positions stay
    assert content.index(b"moov") > content.index(b"mdat")
    assert summarise_frames(path) == FULL_VIDEO
    assert next(read_frames(path, 5))[1].shape == (60, 80, 3)


def moving_texture(frames: int) -> np.ndarray:
    """Frames of a moving texture with noise, for which an encoder uses B frames."""
    rng = np.random.default_rng(0)
    texture = cv2.GaussianBlur(rng.integers(0, 255, (120, 160, 3)).astype(np.uint8), (0, 0), 3)
    noise = rng.integers(0, 8, (frames, 120, 160, 3)).astype(np.uint8)
    return noise + np.stack([np.roll(texture, (index, 2 * index), (0, 1)) // 2 for index in range(frames)])


B_FRAMES = {"bf": "3", "g": "60"}


@pytest.mark.parametrize("kind", ["mp4", "mpegts", "matroska"])
@pytest.mark.parametrize(
    ("options", "is_even", "limit"),
    [
        (B_FRAMES, True, 0.75),
        (B_FRAMES, False, 0.75),
        ({"bf": "3", "g": "24", "x264-params": "open-gop=1:b-pyramid=strict"}, True, 0.75),
        ({"bf": "0", "g": "30"}, True, 1.0),  # other frames depend on every frame
        ({"bf": "2", "flags": "+ilme+ildct"}, True, 1.02),  # interlaced: all frames are decoded
    ],
)
def test_skipping_frames_does_not_change_the_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, options: dict[str, str], is_even: bool, limit: float
) -> None:
    times = None if is_even else (np.cumsum(np.random.default_rng(0).integers(20, 150, 60)) / 1000).tolist()
    path = write_video_file(tmp_path / "a", Track(moving_texture(60), options=options, times=times), kind=kind)
    decoded_times, decode = list[float](), VideoTrack.decode

    def count_decoded(track: VideoTrack, begin: float | None = None) -> Iterator[tuple[float, av.VideoFrame]]:
        for seconds, frame in decode(track, begin):
            decoded_times.append(seconds)
            yield seconds, frame

    monkeypatch.setattr(VideoTrack, "decode", count_decoded)
    requests = [(2.0, None), (2.0, (1.3, 2.9)), (0.4, None), (0.05, None), (60.0, None)]
    samples = [list(read_frames(path, fps, span=span)) for fps, span in requests]
    decoded_times.clear()
    list(read_frames(path, 2.0))
    assert len(decoded_times) <= 60 * limit
    monkeypatch.setattr("lib.media.frames._plan_frames", lambda *arguments: [])
    expected = [list(read_frames(path, fps, span=span)) for fps, span in requests]
    for sampled, full in zip(samples, expected, strict=True):
        assert [seconds for seconds, _ in sampled] == [seconds for seconds, _ in full]
        assert all(
            np.array_equal(image, expected_image) for (_, image), (_, expected_image) in zip(sampled, full, strict=True)
        )


@pytest.mark.parametrize("options", [{"bf": "3", "g": "60"}, {"bf": "2", "g": "24", "x264-params": "open-gop=1"}])
@pytest.mark.parametrize("is_even", [True, False])
def test_windows_in_one_pass_equal_separate_windows(tmp_path: Path, options: dict[str, str], is_even: bool) -> None:
    times = None if is_even else (np.cumsum(np.random.default_rng(0).integers(20, 150, 60)) / 1000).tolist()
    path = write_video_file(tmp_path / "a.mp4", Track(moving_texture(60), options=options, times=times))
    spans = [(0.0, 1.5), (0.73, 2.23), (1.46, 2.96), (2.5, 9.0), (9.0, 10.5)]  # the last two end after the video
    raw = Raw("a", path, None)
    windows = list(sample_windows(raw, spans, 5.0, 80, 90))
    assert len(windows) == len(spans)
    for span, window in zip(spans, windows, strict=True):
        expected = sample_frames(raw._replace(span=span), 5.0, 80, 90)
        assert window.rejected == expected.rejected
        assert all(np.array_equal(window.arrays[name], values) for name, values in expected.arrays.items())


def test_windows_in_one_pass_decode_and_encode_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video_file(tmp_path / "a.mp4", Track(moving_texture(60), options=B_FRAMES))
    decoded_times, images, decode = list[float](), list[np.ndarray](), VideoTrack.decode

    def count_decoded(track: VideoTrack, begin: float | None = None) -> Iterator[tuple[float, av.VideoFrame]]:
        for seconds, frame in decode(track, begin):
            decoded_times.append(seconds)
            yield seconds, frame

    monkeypatch.setattr(VideoTrack, "decode", count_decoded)
    list(read_windows(path, 2.0, 80, [(0.0, 2.0), (1.0, 3.0), (2.0, 4.0)], images.append))
    assert len(decoded_times) <= 60 * 0.75
    assert len(images) == 8  # at 0, 0.5, ..., 3.5 s


def test_windows_end_where_damage_needs_separate_decoding(tmp_path: Path) -> None:
    path = write_damaged_video(tmp_path / "a.mp4", range(40, 43), {"bf": "3", "g": "20"})
    windows = list(sample_windows(Raw("a", path, None), [(0.0, 1.5), (1.0, 2.5), (2.5, 3.9)], 5.0, 80, 90))
    assert len(windows) == 2


def test_damaged_video_is_decoded_completely(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_damaged_video(tmp_path / "a.mp4", range(20, 23), {"bf": "3", "g": "60"})
    assert probe_video(path).damaged
    samples = list(read_frames(path, 3.0))
    monkeypatch.setattr("lib.media.frames._plan_frames", lambda *arguments: [])
    expected = list(read_frames(path, 3.0))
    assert [seconds for seconds, _ in samples] == [seconds for seconds, _ in expected]
    assert all(
        np.array_equal(image, expected_image) for (_, image), (_, expected_image) in zip(samples, expected, strict=True)
    )
