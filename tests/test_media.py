"""What of a film is shown, and when: one answer for verification, frames and sound, whatever the file."""

import gc
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
from lib.media.audio import read_audio
from lib.media.frames import probe_video, read_frames
from lib.media.packets import VideoError, VideoTrack
from lib.sources import base, check
from lib.sources.fiv2 import LATTICE, SCORES
from lib.streams import audio, frames
from lib.streams.base import Raw
from lib.streams.faces import align
from lib.streams.faces.detect import Detector
from tests.video_files import RATE, Track, entries, larger, level, numbered, patch, tone, write

LOW_DELAY = {"bf": "0", "sc_threshold": "0", "g": "30"}
WHOLE = 4.0, 60, 20
"""Seconds, frames and samples of `numbered()`."""


def seen(path: Path) -> tuple[float, int, int]:
    """Seconds and frames by verification, and how many samples there are, each of which is the picture of its time."""
    probe, sampled = probe_video(path), list(read_frames(path, 5))
    first = level(sampled[0][1])
    for seconds, shown in sampled:
        assert level(shown) - first == pytest.approx(seconds, abs=0.08)
        assert shown.shape[:2] == (probe.height, probe.width)
    return round(probe.duration, 2), probe.frames, len(sampled)


def heard(path: Path) -> tuple[float, np.ndarray]:
    """When sound begins, and how loud it is in each tenth of a second from then on."""
    start, samples = read_audio(path, RATE)
    samples = samples[: len(samples) // 1600 * 1600]
    return start, np.sqrt((samples.reshape(-1, 1600) ** 2).mean(1))


def test_an_ordinary_clip(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", Track(numbered(), options={"g": "60", "bf": "2"}), Track(tone(4)))
    assert seen(path) == WHOLE
    start, loud = heard(path)
    assert start == pytest.approx(0, abs=0.01)
    assert loud[:40] == pytest.approx(0.3 / 2**0.5, abs=0.03)


@pytest.mark.parametrize("kind", ["mp4", "mpegts", "matroska"])
@pytest.mark.parametrize("options", [LOW_DELAY, {"g": "250", "bf": "3"}, {"g": "12", "bf": "2", "flags": "-cgop"}])
def test_a_part_of_a_film_is_what_the_whole_shows_then(tmp_path: Path, kind: str, options: dict[str, str]) -> None:
    film, voice = numbered(90), np.concatenate([tone(2.0), np.zeros(RATE), tone(3.0)])
    path = write(tmp_path / "a", Track(film, options=options), Track(voice), kind=kind)
    whole = list(read_frames(path, 60))  # each frame four times
    for begin, end in ((0.0, 2.0), (1.3, 2.5), (4.05, 5.97)):
        part, probe = list(read_frames(path, 5, span=(begin, end))), probe_video(path, (begin, end))
        assert [seconds for seconds, _ in part] == [index / 5 for index in range(len(part))]
        assert len(part) == round(np.ceil(round((end - begin) * 5, 6)))
        for seconds, shown in part:
            at = int((begin + seconds) * 60 + 1e-6)
            assert np.array_equal(shown, whole[at][1]) or np.array_equal(shown, whole[at - 1][1])
        assert probe.duration == pytest.approx(end - begin, abs=0.07)
        assert probe.frames == pytest.approx((end - begin) * 15, abs=1.5)
        start, samples = read_audio(path, RATE, (begin, end))
        assert start == pytest.approx(0, abs=0.001)
        assert len(samples) / RATE == pytest.approx(end - begin, abs=0.001)
        first, of_whole = read_audio(path, RATE)
        away = round((begin - first) * RATE)
        assert np.abs(samples[400:-400] - of_whole[away:][: len(samples)][400:-400]).max() < 0.1


def test_in_a_part_the_last_frame_stays_on_show_until_its_end(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", Track(numbered(4, 1), times=[0, 1, 2, 5]))
    shown = [round(level(one)) for _, one in read_frames(path, 1, span=(1.5, 4.5))]
    assert shown == [1, 2, 2]


def test_a_part_beyond_the_end_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", Track(numbered()), Track(tone(4)))
    assert probe_video(path, (2.0, 4.9)).duration == pytest.approx(2, abs=0.1)
    with pytest.raises(VideoError, match=r"^ends at 5\.5 s, its video at 3\.9 s$"):
        probe_video(path, (2.0, 5.5))
    with pytest.raises(VideoError, match=r"^begins at 4\.5 s, after the end of its video$"):
        probe_video(path, (4.5, 5.0))


def test_a_change_of_size_in_the_middle_is_shown_at_the_first_size(tmp_path: Path) -> None:
    one = write(tmp_path / "1.ts", Track(numbered(30), options=LOW_DELAY), kind="mpegts")
    other = write(
        tmp_path / "2.ts",
        Track(numbered(30, width=320, height=240, begin=2), begin=2, options=LOW_DELAY),
        kind="mpegts",
    )
    path = tmp_path / "a.mp4"
    path.write_bytes(one.read_bytes() + other.read_bytes())
    assert seen(path) == WHOLE
    assert frames.decode_all_frames(frames.sample_frames(Raw("a", path, None), 5, 640, 90)).shape == (20, 120, 160, 3)


def test_a_film_without_time_stamps_has_its_own_rate(tmp_path: Path) -> None:
    assert seen(write(tmp_path / "a.mp4", Track(numbered(), options=LOW_DELAY), kind="h264")) == WHOLE


def test_stamps_that_begin_late_count_back(tmp_path: Path) -> None:
    tracks = Track(numbered(), begin=-1.5, options=LOW_DELAY), Track(tone(4), begin=-1.5)
    path = write(tmp_path / "a.mkv", *tracks, kind="matroska", options={"avoid_negative_ts": "disabled"})
    with av.open(str(path)) as container:
        assert any(frame.pts is None for frame in container.decode(video=0))
    assert seen(path) == WHOLE
    assert heard(path)[0] == pytest.approx(0, abs=0.05)


def test_what_an_edit_hides_at_the_start_is_not_shown(tmp_path: Path) -> None:
    options = {"g": "80", "bf": "2", "sc_threshold": "0"}
    path = write(
        tmp_path / "a.mp4", Track(numbered(80), begin=-4 / 3, options=options), Track(tone(5.33), begin=-4 / 3)
    )
    assert seen(path) == WHOLE
    assert level(next(read_frames(path, 5))[1]) == pytest.approx(4 / 3, abs=0.05)
    assert heard(path)[0] == pytest.approx(0, abs=0.05)


def test_what_an_edit_hides_at_the_end_is_not_shown(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", Track(numbered(), options=LOW_DELAY | {"g": "10"}))
    content = path.read_bytes()
    place = content.index(b"elst") + 12
    assert struct.unpack(">I", content[place : place + 4]) == (4000,)
    patch(path, (place, struct.pack(">I", 2000)))
    assert seen(path) == (2.0, 30, 10)


def test_a_film_that_begins_amid_a_group_of_pictures_begins_at_its_first_picture(tmp_path: Path) -> None:
    film = Track(numbered(90), options=LOW_DELAY, keep=lambda number, _: number >= 13)
    sound = Track(tone(6), keep=lambda _, packet: packet.pts >= 0.8 * RATE)
    path = write(tmp_path / "a.ts", film, sound, kind="mpegts")
    assert seen(path) == WHOLE
    assert level(next(read_frames(path, 5))[1]) == pytest.approx(2, abs=0.05)
    assert heard(path)[0] == pytest.approx(0.8 - 2, abs=0.1)


@pytest.mark.parametrize("kind", ["mp4", "matroska"])
def test_a_hole_in_the_sound_is_silence(tmp_path: Path, kind: str) -> None:
    lost = Track(tone(4), keep=lambda _, packet: not 0.96 <= float(packet.pts * packet.time_base) < 2.56)
    start, loud = heard(write(tmp_path / "a.mp4", Track(numbered()), lost, kind=kind))
    assert start == pytest.approx(0, abs=0.01)
    quiet = np.flatnonzero(loud[:40] < 0.1)
    assert quiet.tolist() == pytest.approx(list(range(10, 25)), abs=1)
    assert loud[26:39] == pytest.approx(0.3 / 2**0.5, abs=0.03)


def test_no_numbers_are_silence(tmp_path: Path) -> None:
    samples = tone(4)
    samples[RATE : RATE + 1600] = np.nan
    samples[2 * RATE] = np.inf
    path = write(tmp_path / "a.mkv", Track(numbered()), Track(samples, codec="pcm_f32le"), kind="matroska")
    _, loud = heard(path)
    assert np.flatnonzero(loud < 0.1).tolist() == [10]
    settings = {"sample_rate": RATE, "window": 0.025, "step": 0.01, "mels": 64, "mfcc": 24}
    more = {"filter_rate": None, "edges": "inside", "top_db": None}
    record = audio.compute_features(
        Raw("a", path, None), audio.Settings.model_validate({"enabled": True} | settings | more)
    )
    assert all(np.isfinite(array).all() for array in record.arrays.values())


@pytest.mark.parametrize("factor", [10.0, 1e30])
def test_samples_beyond_full_scale_are_clipped(tmp_path: Path, factor: float) -> None:
    path = write(tmp_path / "a.mkv", Track(numbered()), Track(factor * tone(4), codec="pcm_f32le"), kind="matroska")
    assert read_audio(path, RATE)[1] == pytest.approx(np.clip(factor * tone(4), -1, 1), abs=1e-6)


def test_sound_whose_rate_changes_in_the_middle_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "a.ts"
    content = b""
    for begin, rate in (0, RATE), (2, 48_000):
        film = Track(numbered(30, begin=begin), begin=begin, options=LOW_DELAY)
        sound = Track(tone(2, rate=rate), begin=begin, rate=rate)
        content += write(path, film, sound, kind="mpegts").read_bytes()
    path.write_bytes(content)
    start, samples = read_audio(path, RATE)
    assert start + len(samples) / RATE == pytest.approx(4, abs=0.1)
    for second in (1, 3):  # a tone of 440 Hz, whatever it is made from
        spectrum = np.abs(np.fft.rfft(samples[second * RATE - 8000 : second * RATE + 8000]))
        assert spectrum.argmax() == 440


def test_sound_much_longer_than_the_film_ends_with_it(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", Track(numbered()), Track(tone(20)))
    assert len(read_audio(path, RATE)[1]) / RATE == pytest.approx(4, abs=0.05)


def test_stamps_that_leap_are_refused(tmp_path: Path) -> None:
    parts = [write(tmp_path / f"{begin}.ts", Track(numbered(30, begin=begin)), kind="mpegts") for begin in (0, 2)]
    again = tmp_path / "again.ts"
    again.write_bytes(b"".join(part.read_bytes() for part in parts))
    ahead = write(
        tmp_path / "ahead.mp4", Track(numbered(), times=[at / 15 + (7200 if at > 29 else 0) for at in range(60)])
    )
    for path, said in (again, r"leap by -1\.\d s at 1\.9 s"), (ahead, r"leap by 7200\.1 s at 1\.9 s"):
        with pytest.raises(VideoError, match=said):
            probe_video(path)
        with pytest.raises(VideoError, match=said):
            list(read_frames(path, 5))


def test_pixels_that_are_not_square_are_shown_as_wide_as_they_are(tmp_path: Path) -> None:
    for aspect, size in (Fraction(2), (120, 320)), (Fraction(1, 2), (120, 80)):
        path = write(tmp_path / "a.mp4", Track(numbered(), aspect=aspect))
        assert seen(path) == WHOLE
        assert next(read_frames(path, 5))[1].shape[:2] == size
    assert next(read_frames(path, 5, 60))[1].shape[:2] == (60, 40)


TURNS = {  # the matrix's a, b, c, d, and what it makes of a picture
    (1, 0, 0, 1): lambda picture: picture,
    (-1, 0, 0, 1): lambda picture: picture[:, ::-1],
    (1, 0, 0, -1): lambda picture: picture[::-1],
    (-1, 0, 0, -1): lambda picture: picture[::-1, ::-1],
    (0, 1, -1, 0): lambda picture: cv2.rotate(picture, cv2.ROTATE_90_CLOCKWISE),
    (0, -1, 1, 0): lambda picture: cv2.rotate(picture, cv2.ROTATE_90_COUNTERCLOCKWISE),
    (0, 1, 1, 0): lambda picture: picture.transpose(1, 0, 2),
    (0, -1, -1, 0): lambda picture: picture.transpose(1, 0, 2)[::-1, ::-1],
}


@pytest.mark.parametrize("turn", TURNS)
def test_the_display_matrix_turns_and_mirrors(tmp_path: Path, turn: tuple[int, ...]) -> None:
    corner = np.full((20, 120, 160, 3), 100, np.uint8)
    corner[:, 10:40, 10:70] = 200
    path = write(tmp_path / "a.mp4", Track(corner, options={"crf": "5"}))
    stored = next(read_frames(path, 5))[1]
    place = path.read_bytes().index(b"tkhd") + 44
    a, b, c, d = (one << 16 for one in turn)
    patch(path, (place, struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)))
    shown = next(read_frames(path, 5))[1]
    expected = TURNS[turn](stored)
    assert shown.shape == expected.shape
    assert (shown == expected).all()
    probe = probe_video(path)
    assert (probe.height, probe.width) == expected.shape[:2]


def test_of_interlaced_fields_one_is_shown(tmp_path: Path) -> None:
    moving = np.full((40, 120, 160, 3), 30, np.uint8)
    for index, shown in enumerate(moving):
        shown[:, 3 * index : 3 * index + 30] = 220
    woven = moving[::2].copy()
    woven[:, 1::2] = moving[1::2, 1::2]

    def interlaced(stream: object) -> None:
        stream.codec_context.flags |= 1 << 18 | 1 << 29  # type: ignore[attr-defined]

    track = Track(woven, codec="mpeg2video", options={"b": "8000000"}, prepare=interlaced)
    path = write(tmp_path / "a.mpg", track, kind="mpeg")
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).interlaced_frame
    for _, shown in read_frames(path, 5):
        combing = np.abs(np.diff(shown[..., 1].astype(float), axis=0)).mean()
        assert combing < 1.5


def test_pictures_smaller_than_a_face_hold_none(tmp_path: Path) -> None:
    aligner = align.Aligner(64, Detector(40, torch.device("cpu")), 0.5, 1.0, 1.0)
    for width, height in (32, 32), (320, 16):
        path = write(tmp_path / "a.mp4", Track(larger(numbered(20), width, height)))
        record = aligner(frames.sample_frames(Raw("a", path, None), 5, 640, 90))
        assert record.refused.startswith("faces: found in 0% of the frames")


def test_the_containers_marks_choose_the_film(tmp_path: Path) -> None:
    cover = Track(numbered(1, width=640, height=480), codec="mjpeg", pixels="yuvj420p", disposition=1024)
    assert seen(write(tmp_path / "cover.mp4", Track(numbered()), cover)) == WHOLE
    screen = Track(numbered(30, width=640, height=480, begin=1))
    for order in (1, -1):
        tracks = [Track(numbered(), disposition=1), screen][::order]
        path = write(tmp_path / "default.mkv", *tracks, kind="matroska")
        assert seen(path) == WHOLE
    assert seen(write(tmp_path / "neither.mkv", Track(numbered()), screen, kind="matroska"))[1] == 30


def test_the_containers_marks_choose_the_sound(tmp_path: Path) -> None:
    for first, begins in (0, 0.1), (1, 0.3):
        tracks = Track(tone(4) / 3, disposition=first), Track(tone(4), disposition=1 - first)
        path = write(tmp_path / "a.mkv", Track(numbered()), *tracks, kind="matroska")
        assert heard(path)[1][5:35].mean() == pytest.approx((0.3 if not first else 0.1) / 2**0.5, abs=0.03), begins


def test_a_script_or_play_list_is_no_video(tmp_path: Path) -> None:
    write(tmp_path / "other.mp4", Track(numbered()))
    (tmp_path / "script.mp4").write_text("ffconcat version 1.0\nfile 'other.mp4'\n")
    cv2.imwrite(str(tmp_path / "picture.png"), numbered(1)[0])
    (tmp_path / "picture.png").rename(tmp_path / "picture.mp4")
    for name in ("script", "picture"):
        for read in (probe_video, lambda path: list(read_frames(path, 5)), lambda path: read_audio(path, RATE)):
            with pytest.raises(VideoError, match=r"^is not a video$"):
                read(tmp_path / f"{name}.mp4")


def test_one_damaged_packet_costs_itself_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", Track(numbered(), options=LOW_DELAY), Track(tone(4)))
    place, size = entries(path)[40]
    patch(path, (place, bytes(size)))
    probe = probe_video(path)
    assert (round(probe.duration, 2), probe.frames, probe.damaged) == (4.0, 59, 1)
    assert len(list(read_frames(path, 5))) == 20


def test_one_damaged_packet_of_sound_is_a_gap_of_it(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", Track(numbered()), Track(tone(4)))
    place, size = entries(path, 1)[30]
    patch(path, (place, b"\xff" * size))
    start, samples = read_audio(path, RATE)
    assert start == pytest.approx(0, abs=0.01)
    whole = read_audio(write(tmp_path / "b.mp4", Track(numbered()), Track(tone(4))), RATE)[1]
    assert len(samples) == len(whole)
    apart = np.flatnonzero(np.abs(samples - whole) > 0.05) / RATE
    assert 1.8 < apart.min() < apart.max() < 2.2


def noisy(path: Path, packets: range, options: dict[str, str]) -> Path:
    """A film of which these packets are noise from byte 20 on: a decoder conceals that, and smears what follows."""
    rng = np.random.default_rng(0)
    wide = cv2.GaussianBlur(rng.integers(0, 255, (240, 480, 3), np.uint8), (0, 0), 3)
    moving = np.stack([wide[:, 2 * step : 2 * step + 320] for step in range(60)])
    write(path, Track(moving, options={"sc_threshold": "0", **options}))
    of = entries(path)
    return patch(path, *((of[at][0] + 20, rng.bytes(of[at][1] - 20)) for at in packets))


def test_concealed_damage_is_told_and_too_much_is_refused(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    names = {"whole": range(0), "end": range(17, 18), "early": range(20, 36, 4)}
    for name, packets in names.items():
        noisy(tmp_path / "raw" / f"{name}.000.mp4", packets, {"bf": "0", "g": "20"})
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


@pytest.mark.parametrize(
    "options",
    [{"bf": "0", "g": "60"}, {"bf": "0", "g": "15"}, {"bf": "2", "b-pyramid": "none", "g": "60"}],
)
def test_what_is_made_from_a_damaged_frame_is_told_too(tmp_path: Path, options: dict[str, str]) -> None:
    whole, damaged = tmp_path / "whole.mp4", tmp_path / "damaged.mp4"
    noisy(whole, range(0), options)
    noisy(damaged, range(20, 23), options)
    pictures = [np.stack([shown for _, shown in read_frames(path, 15)]).astype(float) for path in (whole, damaged)]
    smeared = np.abs(pictures[0] - pictures[1]).mean((1, 2, 3)) > 0.3
    assert smeared.sum() >= 2
    assert probe_video(damaged).damaged == pytest.approx(smeared.sum(), abs=2)


def test_no_more_than_a_batch_of_pictures_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = frames.sample_frames(Raw("a", write(tmp_path / "a.mp4", Track(numbered(90))), None), 15, 640, 90)
    pictures, held = frames.decode_frames, []

    def counted(record: Record, chosen: np.ndarray) -> list[np.ndarray]:
        held.append(len(chosen))
        return pictures(record, chosen)

    monkeypatch.setattr(frames, "decode_frames", counted)
    align.Aligner(64, Detector(40, torch.device("cpu")), 0.0, 1.0, 1.0)(record)
    assert max(held) == 32
    assert sum(held[: -(-90 // 32)]) == 90


def test_no_frame_is_kept_that_was_shown(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", Track(numbered(90)))
    gc.collect()
    gc.disable()  # what it alone finds would stay: gigabytes of a long film
    try:
        for _ in read_frames(path, 15, 640, (0.0, 5.0)):
            held = sum(type(one) is av.VideoFrame for one in gc.get_objects())
            assert held <= 4
    finally:
        gc.enable()


def test_what_the_containers_aperture_hides_is_not_shown(tmp_path: Path) -> None:
    sides = np.full((60, 120, 160, 3), 200, np.uint8)
    sides[:, 30:90, 40:120] = numbered(60, width=80, height=60)
    path = write(tmp_path / "a.mp4", Track(sides, options={"crf": "5", "bf": "0"}))
    assert next(read_frames(path, 5))[1].shape == (120, 160, 3)
    content = bytearray(path.read_bytes())
    clap = struct.pack(">I4s8I", 40, b"clap", 80, 1, 60, 1, 0, 1, 0, 1)
    place = content.index(b"avc1", content.index(b"stsd")) - 4
    size = struct.unpack(">I", content[place : place + 4])[0]
    at = content.index(b"stsd") - 4
    above = [content.index(name) - 4 for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl")] + [at, place]
    for box in above:
        content[box : box + 4] = struct.pack(">I", struct.unpack(">I", content[box : box + 4])[0] + len(clap))
    content[place + size : place + size] = clap
    path.write_bytes(content)  # the index lies behind the pictures: their places stay
    assert content.index(b"moov") > content.index(b"mdat")
    assert seen(path) == WHOLE
    assert next(read_frames(path, 5))[1].shape == (60, 80, 3)


def moving(frames: int) -> np.ndarray:
    """Frames of a texture that moves, with noise: each is worth a B frame."""
    rng = np.random.default_rng(0)
    texture = cv2.GaussianBlur(rng.integers(0, 255, (120, 160, 3)).astype(np.uint8), (0, 0), 3)
    noise = rng.integers(0, 8, (frames, 120, 160, 3)).astype(np.uint8)
    return noise + np.stack([np.roll(texture, (index, 2 * index), (0, 1)) // 2 for index in range(frames)])


B_FRAMES = {"bf": "3", "g": "60"}


@pytest.mark.parametrize("kind", ["mp4", "mpegts", "matroska"])
@pytest.mark.parametrize(
    ("options", "even", "most"),
    [
        (B_FRAMES, True, 0.75),
        (B_FRAMES, False, 0.75),
        ({"bf": "3", "g": "24", "x264-params": "open-gop=1:b-pyramid=strict"}, True, 0.75),
        ({"bf": "0", "g": "30"}, True, 1.0),  # each frame is one that others are made of
        ({"bf": "2", "flags": "+ilme+ildct"}, True, 1.02),  # interlaced: the first frame tells, then all are decoded
    ],
)
def test_what_is_not_decoded_is_not_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, options: dict[str, str], even: bool, most: float
) -> None:
    times = None if even else (np.cumsum(np.random.default_rng(0).integers(20, 150, 60)) / 1000).tolist()
    path = write(tmp_path / "a", Track(moving(60), options=options, times=times), kind=kind)
    decoded, shown = list[float](), VideoTrack.decode

    def counted(film: VideoTrack, begin: float | None = None) -> Iterator[tuple[float, av.VideoFrame]]:
        for seconds, frame in shown(film, begin):
            decoded.append(seconds)
            yield seconds, frame

    monkeypatch.setattr(VideoTrack, "decode", counted)
    asked = [(2.0, None), (2.0, (1.3, 2.9)), (0.4, None), (0.05, None), (60.0, None)]
    few = [list(read_frames(path, fps, span=span)) for fps, span in asked]
    decoded.clear()
    list(read_frames(path, 2.0))
    assert len(decoded) <= 60 * most
    monkeypatch.setattr("lib.media.frames._plan_frames", lambda *arguments: [])
    whole = [list(read_frames(path, fps, span=span)) for fps, span in asked]
    for one, other in zip(few, whole, strict=True):
        assert [seconds for seconds, _ in one] == [seconds for seconds, _ in other]
        assert all(np.array_equal(mine, its) for (_, mine), (_, its) in zip(one, other, strict=True))


def test_a_damaged_film_is_decoded_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = noisy(tmp_path / "a.mp4", range(20, 23), {"bf": "3", "g": "60"})
    assert probe_video(path).damaged
    few = list(read_frames(path, 3.0))
    monkeypatch.setattr("lib.media.frames._plan_frames", lambda *arguments: [])
    whole = list(read_frames(path, 3.0))
    assert [seconds for seconds, _ in few] == [seconds for seconds, _ in whole]
    assert all(np.array_equal(mine, its) for (_, mine), (_, its) in zip(few, whole, strict=True))
