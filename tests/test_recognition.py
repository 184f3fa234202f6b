"""Speech recognition: words with times in the stream text, errors about package and network, and a real tiny network."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pytest

from lib.core.errors import InputError, SettingError
from lib.core.shards import Record
from lib.media.writing import write_video
from lib.streams import text
from lib.streams.base import Raw
from lib.streams.text import recognition
from lib.streams.text.recognition import RATE
from lib.streams.text.transcripts import Transcript
from lib.streams.text.vectors import make_hasher, split_timed_words
from tests.run_tool import call_main
from tests.test_text import make_settings
from tests.video_files import Track, timed_frames, write_video_file
from tools.benchmarks import asr
from tools.benchmarks._espeak import load_speaker

SRT = "1\n00:00:00,100 --> 00:00:00,900\nfrom the subtitles\n"


class Word(NamedTuple):
    word: str
    start: float
    end: float


class FakeModel:
    """Has faster-whisper's interface as far as the project uses it: says a word for each half second of audio."""

    supported_languages = ("en", "de")
    loaded: ClassVar[list[dict[str, Any]]] = []
    calls: ClassVar[list[dict[str, Any]]] = []

    def __init__(self, folder: str, **options: Any) -> None:
        self.loaded.append({"folder": folder, **options})

    def transcribe(self, samples: np.ndarray, **options: Any) -> tuple[Iterator[SimpleNamespace], None]:
        self.calls.append({"samples": samples, **options})
        count = len(samples) // (RATE // 2)
        words = [Word(f" word{index}", index / 2, index / 2 + 0.4) for index in range(count)]
        return iter(
            [SimpleNamespace(words=words[:1]), SimpleNamespace(words=words[1:]), SimpleNamespace(words=None)]
        ), None


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a network that the fake package loads."""
    package = ModuleType("faster_whisper")
    package.WhisperModel = FakeModel  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "faster_whisper", package)
    monkeypatch.setattr(FakeModel, "loaded", [])
    monkeypatch.setattr(FakeModel, "calls", [])
    folder = tmp_path / "whisper"
    folder.mkdir()
    for name in ("model.bin", "config.json", "tokenizer.json"):
        (folder / name).touch()
    return folder


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a clip of 2 s with audio, one with subtitles, and one without audio."""
    folder = tmp_path_factory.mktemp("clips")
    noise = np.random.default_rng(0).normal(0, 0.1, 2 * RATE)
    for name in "ab":
        write_video(folder / f"{name}.mp4", np.full((20, 32, 32, 3), 90, np.uint8), 10, noise, RATE)
    write_video_file(folder / "mute.mp4", Track(timed_frames(10)))
    (folder / "b.srt").write_text(SRT)
    return folder


def recognise(network: Path | str, clip: Path, span: Any = None, **changes: Any) -> Record:
    settings = make_settings(files=[], asr="faster-whisper", asr_network=str(network), **changes)
    return text.Extractor(settings)(Raw(clip.name, clip, None, span))


def test_words_of_a_clip_are_stored_with_their_times(network: Path, clips: Path) -> None:
    record = recognise(network, clips / "a.mp4", asr_language="de", asr_beam_size=2, asr_compute_type="int8")
    words = record.arrays["recognised"].tolist()
    assert words[:3] == [b"word0", b"word1", b"word2"]
    times = record.arrays["recognised.times"]
    np.testing.assert_allclose(times[:, 0], np.arange(len(words)) / 2, atol=0.05)  # audio starts with the video
    np.testing.assert_allclose(np.diff(times, axis=1), 0.4, atol=1e-3)
    assert record.attributes["words"] == len(words)
    expected = make_hasher(64)(Transcript(" ".join(word.decode() for word in words)))
    np.testing.assert_allclose(record.arrays["hashing"][0], expected, atol=1e-6)
    counts = dict(zip(text.vectors.COUNTS, record.arrays["counts"][0].tolist(), strict=True))
    assert counts["words_a_second"] == pytest.approx(len(words) / (times[-1, 1] - times[0, 0]), rel=1e-3)
    assert json.loads(record.attributes["parts"]) == {"hashing": 64, "counts": 20}
    assert FakeModel.loaded == [
        {"folder": str(network), "device": "auto", "compute_type": "int8", "local_files_only": True}
    ]
    (call,) = FakeModel.calls
    assert (call["language"], call["beam_size"], call["temperature"]) == ("de", 2, 0.0)
    assert call["samples"].dtype == np.float32
    assert len(call["samples"]) == pytest.approx(2 * RATE, rel=0.05)


def test_subtitles_come_before_recognition(network: Path, clips: Path) -> None:
    record = recognise(network, clips / "b.mp4")
    assert record.attributes["words"] == 3
    assert "recognised" not in record.arrays
    assert not FakeModel.calls
    assert recognise(network, clips / "mute.mp4").rejected == "text: has no sound"
    part = recognise(network, clips / "a.mp4", span=(1.0, 2.0))
    assert part.arrays["recognised"].tolist() == [b"word0", b"word1"]  # times count from the begin of the part
    assert part.arrays["recognised.times"][0, 0] == pytest.approx(0, abs=0.05)
    settings = make_settings(files=[], kinds=["counts"])
    assert text.Extractor(settings)(Raw("a.mp4", clips / "a.mp4", None)).rejected.startswith("text: not in ")


def test_recognised_words_have_times_for_word_vectors(network: Path) -> None:
    settings = make_settings(files=[], asr="faster-whisper", asr_network=str(network))
    transcript = recognition.recognise_words(FakeModel(""), np.zeros(RATE, np.float32), settings, start=3.0)
    words, times = split_timed_words(transcript)
    assert words == ["word0", "word1"]
    assert times == pytest.approx([3.2, 3.7])
    assert transcript.seconds == pytest.approx(0.9)
    silent = recognition.recognise_words(FakeModel(""), np.zeros(10, np.float32), settings)
    assert (silent.text, silent.cues) == ("", ())


def test_files_of_the_network_enter_the_fingerprint(network: Path) -> None:
    settings = make_settings(files=[], asr="faster-whisper", asr_network=str(network))
    assert [path.name for path in text.files(settings)] == ["config.json", "model.bin", "tokenizer.json"]
    assert text.files(make_settings(files=[])) == []


def test_missing_package_and_network_are_named(
    network: Path, tmp_path: Path, clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        SettingError, match=r"text\.asr = 'faster-whisper', but text\.asr_network = null; allowed: the f"
    ):
        text.Extractor(make_settings(files=[], asr="faster-whisper"))
    with pytest.raises(InputError, match=r"text\.asr_network = '/nowhere/whisper' is not a folder; allowed: "):
        recognise("/nowhere/whisper", clips / "a.mp4")
    with pytest.raises(SettingError, match=r"asr_language = 'xx'; allowed: null, or one of en, de, .*; correct it"):
        recognise(network, clips / "a.mp4", asr_language="xx")
    (network / "tokenizer.json").unlink()
    with pytest.raises(
        SettingError, match=r"asr_network = '\S+whisper' has no tokenizer\.json; allowed: the folder of"
    ):
        recognise(network, clips / "a.mp4")
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    with pytest.raises(
        SettingError, match=r"is not installed; .* run `pip install -r requirements-asr\.txt`, or set text"
    ):
        recognise(network, clips / "a.mp4")


def make_whisper(folder: Path) -> Path:
    """Write a randomly initialised Whisper of one layer, convert it for CTranslate2, and return its folder."""
    import torch
    import transformers
    from ctranslate2.converters import TransformersConverter
    from faster_whisper.tokenizer import _LANGUAGE_CODES
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    transformers.utils.logging.disable_progress_bar()
    tokenizer = Tokenizer(
        models.BPE({letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, [])
    )
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tasks = ("translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps")
    special = ["endoftext", "startoftranscript", *_LANGUAGE_CODES[:99], *tasks]
    tokenizer.add_special_tokens([f"<|{name}|>" for name in special])
    tokenizer.add_tokens([f"<|{0.02 * index:.2f}|>" for index in range(1501)])
    end, begin = (tokenizer.token_to_id(f"<|{name}|>") for name in special[:2])
    sizes = {f"{part}_{name}": value for part in ("encoder", "decoder")
             for name, value in (("layers", 1), ("attention_heads", 2), ("ffn_dim", 16))}  # fmt: skip
    config = transformers.WhisperConfig(
        vocab_size=tokenizer.get_vocab_size(), d_model=16, pad_token_id=end, bos_token_id=end, eos_token_id=end,
        decoder_start_token_id=begin, suppress_tokens=[], begin_suppress_tokens=[], **sizes,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)  # these weights say letters
        network = transformers.WhisperForConditionalGeneration(config)
        for (
            weights
        ) in network.model.decoder.parameters():  # larger than by default, so that the words depend on the audio
            torch.nn.init.normal_(weights, std=0.6)
    network.generation_config.alignment_heads = [[0, 0], [0, 1]]
    network.save_pretrained(folder / "transformers")
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<|endoftext|>", eos_token="<|endoftext|>"
    ).save_pretrained(folder / "transformers")
    converter = TransformersConverter(str(folder / "transformers"), copy_files=["tokenizer.json"])
    converter.convert(str(folder / "ctranslate2"))
    return folder / "ctranslate2"


@pytest.mark.slow
def test_real_package_hears_words_of_spoken_sentences(tmp_path: Path, clips: Path, capsys: Any) -> None:
    for package in ("faster_whisper", "jiwer", "espeakng_loader"):
        pytest.importorskip(package, reason="requirements-asr.txt is not installed")
    pytest.importorskip("transformers", reason="requirements-transformers.txt is not installed")
    folder = make_whisper(tmp_path)
    samples = asr.speak_sentences()[0]
    assert 1.5 < len(samples) / RATE < 5
    write_video(tmp_path / "spoken.mp4", np.full((40, 32, 32, 3), 90, np.uint8), 10, samples, RATE)
    first, second = (recognise(folder, tmp_path / "spoken.mp4", asr_language="en", asr_beam_size=1) for _ in range(2))
    words, times = first.arrays["recognised"], first.arrays["recognised.times"]
    assert len(words) > 0  # random weights say random words
    assert words.tolist() == second.arrays["recognised"].tolist()
    assert (np.diff(times, axis=1) >= 0).all()
    assert times.min() >= 0
    assert times.max() <= len(samples) / RATE + 0.1
    assert recognise(folder, clips / "a.mp4", asr_language="en").rejected == "text: without words"  # noise, not speech
    call_main(asr, str(folder), "--beam", "1")
    assert re.search(
        r"word error rate \d\.\d{3}: .* 80 spoken words in 10 sentences\n[\d.]+ s of audio", capsys.readouterr().out
    )
    with pytest.raises(SettingError, match=r"can't be loaded with asr_device = 'cpu' and asr_compute_type = 'float16'"):
        recognise(folder, clips / "a.mp4", asr_device="cpu", asr_compute_type="float16")
    (folder / "model.bin").write_bytes(b"none")
    with pytest.raises(SettingError, match=r"can't be loaded .* get the files again"):
        recognise(folder, clips / "a.mp4")


def test_word_errors_are_counted_without_case_and_punctuation() -> None:
    pytest.importorskip("jiwer", reason="requirements-asr.txt is not installed")
    spoken, heard = ["The cat sat, there.", "It's a dog!"], ["the bat sat over there", "it's dog"]
    assert asr.describe(spoken, heard) == (
        "word error rate 0.429: 1 substituted, 1 deleted and 1 inserted words; 7 spoken words in 2 sentences"
    )


def test_benchmark_names_missing_packages(network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("espeakng_loader", "jiwer"):
        monkeypatch.setitem(sys.modules, package, None)
    load_speaker.cache_clear()
    message = r"package {} is not installed; .* run `pip install -r requirements-asr\.txt`"
    with pytest.raises(InputError, match=message.format("espeakng-loader")):
        asr.speak_sentences()
    with pytest.raises(InputError, match=message.format("jiwer")):
        asr.count_errors(["a"], ["a"])
