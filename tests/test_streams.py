"""Frames, faces, flow and shards."""

from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
import torch

from lib import frames, shards, video, work
from lib.demo.head import SAMPLE_RATE, Identity, Performance, render
from lib.faces import align
from lib.faces.detect import Faces
from lib.faces.follow import follow
from lib.flow import opencv, stream
from lib.flow.energy import energy
from lib.flow.tvl1 import tvl1
from lib.shards import Record
from tests.conftest import REAL, needs_real_clips

SOLVER = {
    "lambda_": 0.15, "theta": 0.3, "tau": 0.25, "scales": 5, "scale_step": 0.8, "warps": 5, "iterations": 30, "median": True,
}  # fmt: skip
CPU = torch.device("cpu")


def numbered_video(path: Path, levels: list[int], fps: int) -> None:
    """One grey level a frame, so that a decoded frame tells its number."""
    pictures = np.broadcast_to(np.array(levels, np.uint8)[:, None, None, None], (len(levels), 64, 96, 3))
    video.write(path, np.ascontiguousarray(pictures), fps, np.zeros(SAMPLE_RATE, np.float32), SAMPLE_RATE)


@pytest.mark.parametrize("fps", [5, 15, 25, 60])
def test_frames_are_sampled_by_time(tmp_path: Path, fps: int) -> None:
    levels = [20 + 200 * index // (2 * fps) for index in range(2 * fps)]
    numbered_video(tmp_path / "a.mp4", levels, fps)
    sampled = list(video.sample(tmp_path / "a.mp4", 5.0))
    assert [time for time, _ in sampled] == pytest.approx(np.arange(10) / 5)
    expected = [levels[int(index * fps / 5 + 1e-6)] for index in range(10)]
    assert [frame.mean() for _, frame in sampled] == pytest.approx(expected, abs=2.5)


def test_long_side_is_limited_and_jpeg_comes_back(tmp_path: Path) -> None:
    numbered_video(tmp_path / "a.mp4", [100] * 30, 15)
    record = frames.sample(tmp_path / "a.mp4", "a.mp4", 5, 48, 90)
    pictures = frames.decode(record)
    assert pictures.shape == (10, 32, 48, 3)
    assert pictures.mean() == pytest.approx(100, abs=2)
    assert "flow needs 2" in frames.sample(tmp_path / "a.mp4", "a.mp4", 0.3, 48, 90).refused


def faces(*centres: tuple[float, float, float]) -> Faces:
    boxes = np.array([[x - s, y - s, x + s, y + s] for x, y, s in centres], float).reshape(-1, 4)
    return Faces(boxes, np.ones(len(boxes)), np.zeros((len(boxes), 5, 2)))


def test_the_same_person_is_followed() -> None:
    left, right = (50, 50, 20), (150, 50, 15)
    seen = [faces(left, right), faces(right, left), faces(right), faces(left, right)]
    assert follow(seen).tolist() == [0, 1, -1, 0]
    assert follow([faces(), faces()]).tolist() == [-1, -1]
    away_and_back = [faces(left), faces(), faces((75, 50, 20)), faces((500, 500, 20))]
    assert follow(away_and_back).tolist() == [0, -1, 0, -1]


def test_short_gaps_are_bridged_and_marked() -> None:
    times = np.arange(8) / 5
    landmarks = np.arange(8.0)[:, None, None] * np.ones((8, 5, 2))
    detected = np.array([0, 1, 0, 1, 0, 0, 0, 1], bool)
    landmarks[~detected] = np.nan
    filled, found = align.interpolate(landmarks, detected, times, max_gap=0.5)
    assert found.tolist() == [0, 2, 1, 2, 0, 0, 0, 2]
    assert filled[2] == pytest.approx(np.full((5, 2), 2.0))
    assert np.isnan(filled[4]).all()


def test_alignment_undoes_a_similarity() -> None:
    rng = np.random.default_rng(0)
    picture = cv2.GaussianBlur(rng.uniform(0, 255, (112, 112, 3)), (0, 0), 4).astype(np.uint8)
    turn = cv2.getRotationMatrix2D((56, 56), 20, 1.3) + [[0, 0, 40], [0, 0, 30]]
    moved = cv2.warpAffine(picture, turn, (220, 200), borderMode=cv2.BORDER_REPLICATE)
    points = align.TEMPLATE @ turn[:, :2].T + turn[:, 2]
    back = align.warp(moved, points, 112)
    assert np.abs(back[20:-20, 20:-20].astype(int) - picture[20:-20, 20:-20]).mean() < 1.5


def test_a_demo_face_is_found_in_nearly_all_frames_and_a_blank_is_refused(tmp_path: Path) -> None:
    aligner = align.Aligner(64, 40, 0.5, 1.0, CPU)
    pictures, voice = render(Identity(1), Performance(0.5, 1.5, 150.0, 2), 3.0, 15)
    video.write(tmp_path / "a.mp4", pictures, 15, voice, SAMPLE_RATE)
    record = aligner(frames.sample(tmp_path / "a.mp4", "a.mp4", 5, 640, 90))
    assert record.arrays["faces"].shape == (15, 64, 64, 3)
    assert (record.arrays["found"] == align.DETECTED).mean() > 0.9
    numbered_video(tmp_path / "b.mp4", [0] * 45, 15)
    assert "found in 0%" in aligner(frames.sample(tmp_path / "b.mp4", "b.mp4", 5, 640, 90)).refused


def moved_face(face: np.ndarray, amplitude: float) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """A face, the same moved by a smooth known flow, and that flow (2, H, W)."""
    y, x = np.mgrid[:112, :112].astype(np.float32)
    known = amplitude * np.stack([np.sin(x / 40 + 1) * np.cos(y / 50), np.cos(x / 45) * np.sin(y / 35 + 1)])
    # previous(x) = next(x + u(x))
    previous = cv2.remap(face, x + known[0], y + known[1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    as_bytes = [torch.from_numpy(image).round().clamp(0, 255).to(torch.uint8)[None] for image in (previous, face)]
    return as_bytes[0], as_bytes[1], known


@pytest.mark.parametrize("amplitude", [0.5, 2.0, 4.0])
def test_flow_of_a_deformed_face_is_as_right_as_opencvs(face: np.ndarray, amplitude: float) -> None:
    previous, following, known = moved_face(face, amplitude)

    def endpoint_error(flow: torch.Tensor) -> float:
        return float(np.linalg.norm(flow[0].numpy() - known, axis=0)[8:-8, 8:-8].mean())

    ours, theirs = tvl1(previous, following, **SOLVER), opencv.tvl1(previous, following, **SOLVER)
    assert endpoint_error(ours) < 1.1 * endpoint_error(theirs) + 0.01
    assert endpoint_error(ours) < 0.2 + 0.1 * amplitude
    ratio = energy(previous, following, ours) / energy(previous, following, theirs)
    assert ratio.item() < 1.05


def test_flow_of_identical_and_flat_images_is_nearly_zero_and_batches_do_not_matter(face: np.ndarray) -> None:
    one = torch.from_numpy(face)[None]
    assert tvl1(one, one, **SOLVER).abs().max() < 1e-4
    flat = torch.full((1, 20, 33), 7.0)
    assert tvl1(flat, flat, **SOLVER).abs().max() < 1e-4
    previous, following, _ = moved_face(face, 2.0)
    alone = tvl1(previous, following, **SOLVER)
    together = tvl1(torch.cat([one.to(torch.uint8), previous]), torch.cat([one.to(torch.uint8), following]), **SOLVER)
    torch.testing.assert_close(together[1:], alone, atol=1e-3, rtol=0)


def test_flow_refuses_nan_and_other_shapes(face: np.ndarray) -> None:
    image = torch.from_numpy(face)[None]
    with pytest.raises(ValueError, match="NaN"):
        tvl1(image, image * float("nan"), **SOLVER)
    with pytest.raises(ValueError, match="both must be"):
        tvl1(image, image[:, :-1], **SOLVER)


def test_flow_is_quantised_within_half_a_step_and_zero_where_a_face_is_absent(face: np.ndarray) -> None:
    previous, following, _ = moved_face(face, 2.0)
    pictures = torch.cat([previous, following, following])[..., None].expand(-1, -1, -1, 3).numpy()
    record = Record("a", {"faces": pictures, "found": np.array([2, 2, 0])})
    made = stream.flow(record, "torch", SOLVER, 16.0, CPU)
    exact = tvl1(previous, following, **SOLVER)[0].permute(1, 2, 0).numpy()
    scale = made.attributes["scale"]
    assert np.abs(made.arrays["flow"][0] * scale - exact).max() <= scale / 2 + 1e-4
    assert made.arrays["valid"].tolist() == [True, False]
    assert not made.arrays["flow"][1].any()


def test_shards_are_the_same_bytes_and_finished_ones_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(work, "ROOT", tmp_path / "work")

    def make(name: str) -> list[Record]:
        calls.append(name)
        if name == "b" and len(calls) == 2:
            raise KeyboardInterrupt
        return [Record("-x y.mp4", {"faces": np.arange(60).reshape(2, 5, 2, 3)}), Record("z", refused="why")]

    with pytest.raises(KeyboardInterrupt):
        shards.build("frames", tmp_path / "out", {"a": 1, "b": 1}, {}, make, 4)
    assert not (tmp_path / "out").exists()
    shards.build("frames", tmp_path / "out", {"a": 1, "b": 1}, {}, make, 4)
    assert calls == ["a", "b", "b"]
    assert (tmp_path / "out/a.h5").read_bytes() == (tmp_path / "out/b.h5").read_bytes()
    shards.build("frames", tmp_path / "out", {"a": 1, "b": 2}, {}, make, 4)
    assert calls == ["a", "b", "b", "b"]
    assert shards.refusals(tmp_path / "out") == {"z": "why"}
    with h5py.File(tmp_path / "out/a.h5") as file:
        assert file["-x y.mp4/faces"].chunks == (1, 5, 2, 3)


@needs_real_clips
@pytest.mark.parametrize("name", ["6KKNrufnL80.000.mp4", "0ObEtA6Q8vU.004.mp4"])
def test_the_real_clips_go_through_frames_faces_and_flow(name: str) -> None:
    record = frames.sample(REAL / name, name, 5, 640, 90)
    aligned = align.Aligner(112, 40, 0.5, 1.0, CPU)(record)
    assert aligned.arrays["faces"].shape == (77, 112, 112, 3)
    assert (aligned.arrays["found"] == align.DETECTED).all()
    grey = stream.grey_levels(torch.from_numpy(aligned.arrays["faces"][::7]))
    ours, theirs = (solve(grey[:-1], grey[1:], **SOLVER) for solve in (tvl1, opencv.tvl1))
    assert (energy(grey[:-1], grey[1:], ours).mean() / energy(grey[:-1], grey[1:], theirs).mean()).item() < 1.05
