"""The stream speech: hidden states of small random WavLM, HuBERT and wav2vec 2.0 networks, and unusual clips and folders."""

import itertools
import json
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from lib.core import parallel, pretrained, pretrained_audio, shards
from lib.core.errors import InputError, SettingError
from lib.core.pretrained_audio import AudioInput
from lib.core.shards import Record
from lib.media.audio import read_audio
from lib.streams import _shards, base, speech
from lib.streams._shards import write_shards
from lib.streams.base import Raw
from tests.conftest import REAL, needs_real_clips
from tests.pretrained_folders import SPEECH_FAMILIES, make_image_folder, make_speech_folder, make_text_folder
from tests.test_waveform import make_tone, write_clip

RATE = 16_000


def make_stream_settings(folder: Path, **changes: Any) -> speech.Settings:
    values = {"enabled": True, "network": str(folder), "revision": None, "download": False, "allow_code": False}
    return speech.Settings(**values | {"layers": "last", "rate": None, "window": 30.0} | changes)


def extract(folder: Path, raw: Raw, **changes: Any) -> Record:
    return speech.make_extractor(make_stream_settings(folder, **changes))(raw)


def make_noise(seconds: float) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.5, 0.5, round(seconds * RATE)).astype(np.float32)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Raw:
    return write_clip(tmp_path_factory.mktemp("clip") / "a.mp4", make_tone(2) + 0.2 * make_noise(2))


@pytest.fixture(scope="module")
def wavlm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_speech_folder(tmp_path_factory.mktemp("wavlm"))


def call_transformers(folder: Path, raw: Raw) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return the output (T, D) and all hidden states of a direct call of the library."""
    processor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    network = transformers.AutoModel.from_pretrained(folder, local_files_only=True).eval()
    samples = read_audio(raw.path, processor.sampling_rate, raw.span)[1]
    with torch.no_grad():
        output = network(
            **processor(samples, sampling_rate=processor.sampling_rate, return_tensors="pt"), output_hidden_states=True
        )
    return output.last_hidden_state[0], [state[0] for state in output.hidden_states]


@pytest.mark.parametrize("family", SPEECH_FAMILIES)
def test_vectors_equal_a_direct_call_of_transformers(family: str, clip: Raw, tmp_path: Path) -> None:
    folder = make_speech_folder(tmp_path / "network", family)
    last, states = call_transformers(folder, clip)
    assert extract(folder, clip).arrays["values"] == pytest.approx(last.numpy(), abs=1e-5)
    mean = extract(folder, clip, layers="mean").arrays["values"]
    assert mean.dtype == np.float32
    assert mean == pytest.approx(torch.stack(states).mean(0).numpy(), abs=1e-5)
    several = extract(folder, clip, layers=[2, 0]).arrays["values"]
    assert several.dtype == np.float16
    assert several == pytest.approx(torch.stack([states[2], states[0]], 1).numpy(), abs=2e-3)
    assert extract(folder, clip, layers="all").arrays["values"].shape == (len(last), 3, 16)


@needs_real_clips
def test_real_clip_equals_a_direct_call_of_transformers(wavlm: Path) -> None:
    raw = Raw("6KKNrufnL80.000.mp4", REAL / "6KKNrufnL80.000.mp4", None)
    record = extract(wavlm, raw)
    assert record.arrays["values"] == pytest.approx(call_transformers(wavlm, raw)[0].numpy(), abs=1e-5)
    assert record.arrays["times"][-1] == pytest.approx(15.3, abs=0.1)


def test_times_are_the_centres_of_the_audio_of_a_vector(wavlm: Path, clip: Raw) -> None:
    record = extract(wavlm, clip)
    start, samples = read_audio(clip.path, RATE)
    times = record.arrays["times"]
    assert len(times) == (len(samples) - 400) // 320 + 1
    assert times[0] == pytest.approx(start + 0.0125)
    assert np.diff(times) == pytest.approx(0.02)


def test_audio_is_resampled_to_the_rate_of_the_folder(tmp_path: Path) -> None:
    folder = make_speech_folder(tmp_path / "network")
    raw = write_clip(tmp_path / "a.mp4", make_tone(2, 44_100), 44_100)
    assert extract(folder, raw).arrays["values"] == pytest.approx(call_transformers(folder, raw)[0].numpy(), abs=1e-5)
    transformers.Wav2Vec2FeatureExtractor(sampling_rate=8000, do_normalize=False).save_pretrained(folder)
    record = extract(folder, raw)
    assert record.arrays["values"] == pytest.approx(call_transformers(folder, raw)[0].numpy(), abs=1e-5)
    assert np.diff(record.arrays["times"]) == pytest.approx(0.04)


def test_rate_gives_means_over_equal_intervals(wavlm: Path, clip: Raw) -> None:
    steps, pooled = extract(wavlm, clip).arrays, extract(wavlm, clip, rate=2.0).arrays
    count = -(-len(steps["times"]) // 25)
    assert len(pooled["values"]) == count
    assert pooled["values"][1] == pytest.approx(steps["values"][25:50].mean(0), abs=1e-6)
    assert pooled["times"][3] == pytest.approx(steps["times"][75:100].mean())
    several = extract(wavlm, clip, rate=2.0, layers="all").arrays["values"]
    assert (several.shape, several.dtype) == ((count, 3, 16), np.float16)
    assert extract(wavlm, clip, rate=50.0).arrays["values"] == pytest.approx(steps["values"])
    with pytest.raises(SettingError, match=r"^speech\.rate = 51, but the network has 50 hidden states .*; lower it"):
        extract(wavlm, clip, rate=51.0)


@pytest.mark.parametrize("length", [400, 719, 720, 16_000, 48_000, 48_001, 48_479, 48_480, 100_000, 161_234])
def test_parts_of_long_audio_cover_each_step_once(length: int) -> None:
    audio, steps = AudioInput(RATE, True, 320, 400), []
    for begin, end, first, count in speech.divide_into_windows(length, audio, 3.0):
        assert begin >= 0
        assert end <= length
        assert end - begin <= 5 * RATE + 400
        assert first + count <= (end - begin - 400) // 320 + 1
        steps += range(begin // 320 + first, begin // 320 + first + count)
    assert steps == list(range((length - 400) // 320 + 1))


def test_long_audio_is_computed_in_parts_of_bounded_length(wavlm: Path, tmp_path: Path) -> None:
    extractor: Any = speech.make_extractor(make_stream_settings(wavlm, window=3.0))
    (network,) = extractor.args
    lengths: list[int] = []
    network.network.register_forward_pre_hook(lambda module, inputs: lengths.append(inputs[0].shape[1]))
    samples = make_noise(10)
    parts = speech.compute_hidden_states(network, samples, 3.0)
    assert (len(lengths), max(lengths)) == (4, 5 * RATE + 80)
    together = speech.compute_hidden_states(network, samples, 30.0)
    assert parts.shape == together.shape
    # the first part ends a second after its last vector, so that the two differ little
    assert np.abs(parts - together).mean() < 0.2 * np.abs(together - together.mean(0)).mean()


def test_clip_without_enough_audio_is_rejected(wavlm: Path, clip: Raw, tmp_path: Path) -> None:
    assert extract(wavlm, Raw("b.mp4", None, None)).rejected == "speech: no video"
    short = extract(wavlm, clip._replace(span=(0.0, 0.02))).rejected
    assert short == "speech: 0.020 s of audio, the network needs 0.025 s"
    (tmp_path / "c.mp4").write_bytes(b"no video")
    assert extract(wavlm, Raw("c.mp4", tmp_path / "c.mp4", None)).rejected.startswith("speech: sound cannot be decoded")


def test_folder_that_is_no_audio_network_is_rejected(tmp_path: Path) -> None:
    image, text = make_image_folder(tmp_path / "image"), make_text_folder(tmp_path / "text")
    for folder, kind in ((image, "dinov2"), (text, "roberta")):
        with pytest.raises(SettingError, match=rf"^speech\.network = .* is of the type {kind}; allowed: .* WavLM"):
            speech.make_extractor(make_stream_settings(folder))
    audio = make_speech_folder(tmp_path / "audio")
    (audio / "preprocessor_config.json").unlink()
    with pytest.raises(SettingError, match=r"^speech\.network = .* has no audio processor that can be loaded"):
        speech.make_extractor(make_stream_settings(audio))
    with pytest.raises(SettingError, match=r"^speech\.network = '/nowhere'"):
        speech.make_extractor(make_stream_settings(Path("/nowhere")))
    assert speech.files(make_stream_settings(Path("/nowhere"))) == []


def test_layers_and_adapters_that_do_not_fit_are_rejected(clip: Raw, tmp_path: Path) -> None:
    folder = make_speech_folder(tmp_path)
    with pytest.raises(SettingError, match=r"^speech\.layers = \[3\]; allowed for this network: .* from 0 to 2"):
        extract(folder, clip, layers=[3])
    config = transformers.AutoConfig.from_pretrained(folder, add_adapter=True, output_hidden_size=16)
    transformers.WavLMModel(config).save_pretrained(folder)
    with pytest.raises(SettingError, match=r"^speech\.network = .* allowed: networks without an adapter"):
        extract(folder, clip)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("can't allocate memory")])
def test_windows_shrink_when_memory_runs_out(
    error: Exception, wavlm: Path, clip: Raw, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    extractor: Any = speech.make_extractor(make_stream_settings(wavlm, window=16.0))
    complete, longest = speech.compute_hidden_states, 4.0

    def compute(network: Any, samples: np.ndarray, window: float) -> np.ndarray:
        if window > longest:
            raise error
        return complete(network, samples, window)

    monkeypatch.setattr(speech, "compute_hidden_states", compute)
    with caplog.at_level(logging.WARNING, "speech"):
        record = extractor(clip)
    assert record.attributes == {"window": 4.0}
    assert "memory ran out: windows of 4 s" in caplog.text
    longest = 1.0
    with pytest.raises(InputError, match=r"^speech: memory of cpu does not suffice for 2 s of audio; lower parallel"):
        extractor(clip)


def test_other_errors_of_the_network_are_raised(wavlm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extractor: Any = speech.make_extractor(make_stream_settings(wavlm))
    with pytest.raises(RuntimeError, match="input to conv1d"):
        speech.compute_in_memory(extractor.args[0]._replace(processor=_WrongProcessor()), make_noise(1), 30.0)


class _WrongProcessor:
    def __call__(self, samples: np.ndarray, **options: Any) -> dict[str, torch.Tensor]:
        return {"input_values": torch.zeros(1, 500, 2)}


def test_stage_prints_the_cost_of_the_corpus_first(
    wavlm: Path, clip: Raw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(parallel, "start_executor", lambda *_: ThreadPoolExecutor(1))
    monkeypatch.setattr(_shards, "time", SimpleNamespace(perf_counter=itertools.count(step=0.01).__next__))
    settings = make_stream_settings(wavlm, layers="all", rate=2.0)
    options = parallel.Parallel(engine="loky", workers=1)

    def make(shard: str) -> Iterator[Record]:
        extractor = speech.make_extractor(settings)
        yield from (extractor(clip._replace(clip=f"{shard}{index}.mp4")) for index in range(2))

    stream, out = base.load("speech"), tmp_path / "data/speech"
    write_shards(stream, settings, out, {"one": 1, "two": 2}, make, clips=4, options=options)
    size = len(next(shards.read_arrays(out, "times"))) * (3 * 16 * 2 + 8)
    expected = f"speech: 4 clips need about < 1 min and 0.1 MB (0.01 s and {size} bytes per clip)"
    assert expected in capsys.readouterr().out
    assert json.loads((out / base.ABOUT).read_text())["shapes"] == {"": [3, 16]}
    write_shards(stream, settings, out, {"one": 1, "two": 2}, make, clips=4, options=options)
    assert capsys.readouterr().out == ""


def test_files_of_the_folder_enter_the_fingerprint(wavlm: Path) -> None:
    names = {path.name for path in speech.files(make_stream_settings(wavlm))}
    assert names == {"config.json", "model.safetensors", "preprocessor_config.json"}
    assert speech.files(make_stream_settings(wavlm)) == pretrained.list_files(wavlm)


def test_input_of_wav2vec_is_described(wavlm: Path) -> None:
    config = transformers.AutoConfig.from_pretrained(wavlm)
    assert pretrained_audio.describe_audio_input(wavlm, config) == AudioInput(RATE, True, 320, 400)
