"""TV-L1 optical flow compared with known motions, OpenCV's solver and a float64 reference."""

import os
import subprocess
import sys
import textwrap
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
import torch

from lib.core.shards import Record
from lib.streams import frames
from lib.streams.base import Raw
from lib.streams.faces import align
from lib.streams.faces.constants import DETECTED
from lib.streams.faces.detect import Detector
from lib.streams.faces.mtcnn import load_networks
from lib.streams.flow import fields, make, tvl1
from lib.streams.flow.solver import Solver
from tests.conftest import REAL, needs_real_clips
from tools.benchmarks._flow import PEER, SOLVER
from tools.flow_quality import add_noise, deformation, endpoint_error, energy, move_image

CPU = torch.device("cpu")
Y, X = np.mgrid[:112, :112].astype(float)


def solve(previous: torch.Tensor, following: torch.Tensor) -> torch.Tensor:
    return tvl1.tvl1(previous, following, SOLVER)


def make_pair(face: np.ndarray, flow: np.ndarray, noise: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the face moved by a known flow, and the face itself."""
    return add_noise(move_image(face, flow), noise), add_noise(
        torch.from_numpy(face)[None].to(torch.uint8), noise, seed=1
    )


@pytest.mark.parametrize("amplitude", [0.5, 1, 2, 4, 8])
@pytest.mark.slow
def test_flow_of_deformed_faces_beats_opencvs(face: np.ndarray, amplitude: float) -> None:
    known_flow = deformation(112, amplitude)
    previous, following = make_pair(face, known_flow)
    ours, opencvs = solve(previous, following), make.solve_by_opencv(previous, following, PEER)
    assert endpoint_error(ours[0], known_flow) < endpoint_error(opencvs[0], known_flow)
    assert endpoint_error(ours[0], known_flow) < 0.1 + 0.1 * amplitude


@pytest.mark.slow
@pytest.mark.parametrize("amplitude", [0.5, 1, 2, 4, 8])
@pytest.mark.parametrize("noise", [2.0, 4.0])
def test_flow_of_noisy_faces_is_close_to_opencvs(face: np.ndarray, amplitude: float, noise: float) -> None:
    known_flow = deformation(112, amplitude)
    previous, following = make_pair(face, known_flow, noise)
    ours, opencvs = solve(previous, following), make.solve_by_opencv(previous, following, PEER)
    assert energy(previous, following, ours) < 1.05 * energy(previous, following, opencvs)
    assert endpoint_error(ours[0], known_flow) < 1.3 * endpoint_error(opencvs[0], known_flow)


@pytest.mark.parametrize(
    "known_flow",
    [
        np.stack([np.full_like(X, 2.3), np.full_like(Y, -1.6)]),
        0.05 * np.stack([55.5 - Y, X - 55.5]),
        0.06 * np.stack([X - 55.5, Y - 55.5]),
    ],
    ids=["translation", "rotation", "zoom"],
)
def test_flow_finds_translation_rotation_and_zoom(face: np.ndarray, known_flow: np.ndarray) -> None:
    assert np.linalg.norm(known_flow, axis=0)[12:-12, 12:-12].mean() > 1.5
    assert endpoint_error(solve(*make_pair(face, known_flow))[0], known_flow) < 0.35


def test_identical_and_flat_images_have_zero_flow(face: np.ndarray) -> None:
    single = torch.from_numpy(face)[None]
    for image in (single, single.double(), torch.full((1, 20, 33), 7.0)):
        assert not solve(image, image).any()
    assert solve(torch.full((1, 20, 33), 7.0), torch.full((1, 20, 33), 90.0)).abs().max() < 1e-4


def test_flow_does_not_depend_on_the_batch(face: np.ndarray) -> None:
    previous, following = make_pair(face, deformation(112, 2))
    alone = solve(previous, following)
    together = solve(torch.cat([following, previous]), torch.cat([previous, following]))
    assert torch.equal(together[1:], alone)
    assert solve(previous[:0], following[:0]).shape == (0, 2, 112, 112)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (9, 1), (2, 3), (7, 8), (33, 20), (65, 130)])
def test_flow_of_any_image_size_equals_float64(face: np.ndarray, height: int, width: int) -> None:
    image = cv2.resize(face, (width + 2, height + 2), interpolation=cv2.INTER_AREA)
    previous = torch.from_numpy(image)[None, 1:-1, 1:-1]  # not contiguous
    following = torch.from_numpy(image)[None, 1:-1, :-2]
    reference = solve(previous.double(), following.double())
    assert reference.dtype == torch.float64
    assert solve(previous, following).shape == (1, 2, height, width)
    torch.testing.assert_close(solve(previous, following).double(), reference, atol=1e-2, rtol=0)


def test_compiled_flow_equals_plain_code(face: np.ndarray) -> None:
    previous, following = make_pair(face, deformation(112, 2))
    torch.testing.assert_close(
        solve(previous, following).double(), solve(previous.double(), following.double()), atol=1e-2, rtol=0
    )


@pytest.mark.parametrize(("height", "width"), [(9, 40), (33, 21)])
@pytest.mark.parametrize("median", [True, False])
@pytest.mark.slow
def test_gpu_kernel_equals_cpu_in_tritons_interpreter(height: int, width: int, median: bool, tmp_path: Path) -> None:
    pytest.importorskip("triton")
    script = """
        import sys, torch
        from lib.streams.flow import gpu
        from lib.streams.flow import tvl1
        from lib.streams.flow.solver import Solver
        previous, following, arguments = torch.load(sys.argv[1])
        level = previous, following, torch.full((3, 2, *previous.shape[1:]), 0.4)
        ours, reference = (solve(*level, Solver(**arguments)) for solve in (gpu.solve_level, tvl1._solve_level))
        assert (reference - 0.4).abs().max() > 0.5
        torch.testing.assert_close(ours, reference, atol=1e-3, rtol=0)
    """
    moving = torch.from_numpy(cv2.resize(skimage.data.camera(), (width + 1, height + 1), interpolation=cv2.INTER_AREA))
    images = moving[:-1, :-1], moving[1:, 1:], moving[:-1, :-1]
    previous, following = torch.stack(images).float(), torch.stack([images[0], *images[:2]]).float()
    arguments = asdict(replace(SOLVER, warps=2, iterations=12, median=median))
    torch.save((previous, following, arguments), tmp_path / "level.pt")
    command = [sys.executable, "-c", textwrap.dedent(script), tmp_path / "level.pt"]
    result = subprocess.run(command, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("capability", [75, 90], ids=["Turing", "Hopper"])
def test_gpu_kernel_compiles_without_a_gpu(capability: int) -> None:
    pytest.importorskip("triton")
    from triton import compile, compiler
    from triton.backends.compiler import GPUTarget

    from lib.streams.flow import gpu

    scheme = "fp32", "fp32", "fp32", "fp32", "i32", "fp32"
    constants = {"height": 112, "width": 112, "warps": 3, "median": True, "block": gpu._BLOCK}
    signature = {"images": "*fp32", "state": "*fp32", "scheme": scheme} | dict.fromkeys(constants, "constexpr")
    ordered = {name: signature[name] for name in gpu._solve.arg_names}
    source = compiler.ASTSource(fn=gpu._solve, signature=ordered, constexprs=constants)
    compiled = compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": 32})
    assert compiled.asm["cubin"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_gpu_flow_equals_cpu_flow(face: np.ndarray) -> None:
    previous, following = make_pair(face, deformation(112, 2))
    on_gpu = solve(previous.cuda(), following.cuda())
    assert on_gpu.is_cuda
    torch.testing.assert_close(on_gpu.cpu(), solve(previous, following), atol=1e-2, rtol=0)


def test_flow_rejects_nan_and_different_shapes(face: np.ndarray) -> None:
    image = torch.from_numpy(face)[None]
    with pytest.raises(ValueError, match="NaN"):
        solve(image, image * float("nan"))
    with pytest.raises(ValueError, match="both must be"):
        solve(image, image[:, :-1])


def test_compute_flow_quantises_and_masks_missing_faces(face: np.ndarray) -> None:
    previous, following = make_pair(face, deformation(112, 2))
    faces = torch.cat([previous, following, following])[..., None].expand(-1, -1, -1, 3).numpy()
    record = Record(
        "a", {"faces": faces, "found": np.array([2, 2, 0]), "times": np.arange(3.0), "cut": np.zeros(3, bool)}
    )
    computed = make.compute_flow(record, "torch", SOLVER, 16.0, CPU)
    exact = solve(previous, following)[0].permute(1, 2, 0).numpy()
    scale = computed.attributes["scale"]
    assert np.abs(computed.arrays["flow"][0] * scale - exact).max() <= scale / 2 + 1e-4
    assert computed.arrays["valid"].tolist() == [True, False]
    assert computed.arrays["times"].tolist() == [0, 1]
    assert not computed.arrays["flow"][1].any()
    arrays = {**record.arrays, "found": np.full(3, 2), "cut": np.array([False, True, False])}
    across_a_cut = make.compute_flow(Record("a", arrays), "torch", SOLVER, 16.0, CPU)
    assert across_a_cut.arrays["valid"].tolist() == [False, True]
    assert not across_a_cut.arrays["flow"][0].any()


def test_compute_flow_of_long_clips_in_parts_is_equal(face: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    faces = np.stack([np.roll(face, rng.integers(-2, 3), 1) for _ in range(8)]).astype(np.uint8)
    other_arrays = {"found": np.array([2, 2, 2, 0, 2, 2, 2, 2]), "cut": np.zeros(8, bool), "times": np.arange(8.0)}
    record = Record("a", {"faces": np.repeat(faces[..., None], 3, 3), **other_arrays})
    complete = make.compute_flow(record, "torch", SOLVER, 16.0, CPU)
    batch_sizes: list[int] = []

    def count_batches(previous: torch.Tensor, following: torch.Tensor, solver: Solver) -> torch.Tensor:
        batch_sizes.append(len(previous))
        return tvl1.tvl1(previous, following, solver)

    monkeypatch.setitem(make.BACKENDS, "torch", count_batches)
    monkeypatch.setattr(fields, "_BATCH", 2)
    parts = make.compute_flow(record, "torch", SOLVER, 16.0, CPU)
    assert batch_sizes == [2, 2, 1]
    assert np.array_equal(parts.arrays["flow"], complete.arrays["flow"])
    assert parts.attributes["mean_motion"] == pytest.approx(complete.attributes["mean_motion"], rel=1e-5)


@pytest.mark.slow
@needs_real_clips
@pytest.mark.parametrize("name", ["6KKNrufnL80.000.mp4", "0ObEtA6Q8vU.004.mp4"])
def test_flow_of_real_clips_is_as_good_as_opencvs(name: str) -> None:
    record = frames.sample_frames(Raw(name, REAL / name, None), 5, 640, 90)
    aligned = align.Aligner(112, Detector(40, load_networks(CPU)), 0.5, 1.0, 0.0)(record)
    assert aligned.arrays["faces"].shape == (77, 112, 112, 3)
    assert (aligned.arrays["found"] == DETECTED).all()
    grey = torch.from_numpy(fields.to_grey(aligned.arrays["faces"]))
    previous, following = grey[:-1], grey[1:]
    ours = solve(previous, following)
    opencvs = make.solve_by_opencv(previous, following, PEER)
    energies, bounds = energy(previous, following, ours), energy(previous, following, opencvs)
    assert energies.mean() < bounds.mean()
    assert (energies < 1.01 * bounds).float().mean() >= 0.95
    assert (ours - opencvs).norm(dim=1).median() < 0.2
