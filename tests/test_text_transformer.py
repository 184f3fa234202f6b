"""Vectors of transcripts and words by a pretrained network: equal to direct calls, windows, times, batches, bad folders."""

import json
import pickle
import shutil
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

transformers = pytest.importorskip("transformers", reason="requirements-transformers.txt is not installed")

import torch  # noqa: E402

import tools.benchmarks.text  # noqa: E402
from lib.core.errors import InputError, SettingError  # noqa: E402
from lib.core.shards import Record  # noqa: E402
from lib.data.dataset import make_inputs  # noqa: E402
from lib.model.encoders import vectors as vectors_encoder  # noqa: E402
from lib.streams import base, text  # noqa: E402
from lib.streams._extraction import extract_all  # noqa: E402
from lib.streams.base import Raw, StreamInfo  # noqa: E402
from lib.streams.text import transformer  # noqa: E402
from lib.streams.text.transcripts import Cue, Transcript  # noqa: E402
from lib.streams.text.vectors import split_timed_words  # noqa: E402
from tests.pretrained_folders import make_image_folder, make_speech_folder, make_text_folder  # noqa: E402
from tests.project_copy import WITHOUT_VIDEO  # noqa: E402
from tests.run_tool import call_main  # noqa: E402
from tests.stage_runs import StageRuns  # noqa: E402
from tests.test_text import make_settings  # noqa: E402

GREETING = "Hi! I'm here, um, and you know what? [laughs] We don't sing."
SPOKEN = "Hi! I'm here, um, and you know what? We don't sing."
SRT = "1\n00:00:01,000 --> 00:00:02,000\nHello there\n\n2\n00:00:03,000 --> 00:00:05,000\n[coughs] unbelievable!\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_text_folder(tmp_path_factory.mktemp("networks") / "roberta")


def extract(
    network: Path, texts: dict[str, str], annotations: Path, kinds: Sequence[str] = ("transformer",), **changes: Any
) -> dict[str, Record]:
    """Return the records of clips with these texts, computed at once."""
    name = f"{zlib.crc32(repr(texts).encode())}.pkl"  # files are read once
    (annotations / name).write_bytes(pickle.dumps(texts))
    settings = make_settings(files=[name], kinds=list(kinds), network=str(network), **changes)
    clips = [(Raw(clip, None, annotations),) for clip in texts]
    return {record.clip: record for record in extract_all(text.Extractor(settings), clips)}


def call_directly(network: Path, words: str) -> torch.Tensor:
    """Return the hidden states (layers, N, D) of a text's tokens, without special ones, from a direct call."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(network)
    model = transformers.AutoModel.from_pretrained(network).eval()
    with torch.no_grad():
        output = model(**tokenizer(words, return_tensors="pt"), output_hidden_states=True)
    return torch.stack(output.hidden_states)[:, 0, 1:-1]


def test_clip_vector_equals_a_direct_call(folder: Path, tmp_path: Path) -> None:
    record = extract(folder, {"a.mp4": GREETING}, tmp_path)["a.mp4"]
    expected = call_directly(folder, SPOKEN)[-1].mean(0).numpy()
    assert record.arrays["transformer"].dtype == np.float32
    assert record.arrays["transformer"] == pytest.approx(expected[None], abs=1e-5)
    assert json.loads(record.attributes["parts"]) == {"transformer": 16}


@pytest.mark.parametrize("layers", ["mean", "all", [2, 0]])
def test_text_layers_equal_a_direct_call(folder: Path, tmp_path: Path, layers: Any) -> None:
    record = extract(folder, {"a.mp4": GREETING}, tmp_path, layers=layers)["a.mp4"]
    states = call_directly(folder, SPOKEN).mean(1).numpy()
    if layers == "mean":
        assert record.arrays["transformer"] == pytest.approx(states.mean(0)[None], abs=1e-5)
        return
    chosen = states if layers == "all" else states[layers]
    assert record.arrays["transformer"].dtype == np.float16
    assert record.arrays["transformer"] == pytest.approx(chosen[None], abs=2e-3)  # 16 bits
    steps = base.load("text").read(record, np.array([0]), "transformer")
    assert (steps.dtype, steps.shape) == (np.float32, (1, *chosen.shape))
    pooled = base.pool_steps(base.load("text"), record, False)
    assert pooled == pytest.approx(chosen.mean(0), abs=2e-3)  # the baselines read the mean over layers


def test_batched_texts_equal_single_texts(folder: Path, tmp_path: Path) -> None:
    texts = {f"{length}.mp4": "we know " * length for length in (1, 50, 3, 200, 7, 20)} | {"empty.mp4": "..."}
    together = extract(folder, texts, tmp_path, ("hashing", "transformer"))
    assert list(together) == list(texts)
    assert together["empty.mp4"].rejected == "text: without words"
    for clip, words in texts.items():
        alone = extract(folder, {clip: words}, tmp_path, ("transformer", "hashing"))[clip]
        assert together[clip].rejected == alone.rejected
        for name, array in alone.arrays.items():
            assert together[clip].arrays[name] == pytest.approx(array, abs=1e-5), name


def test_long_text_is_the_mean_over_windows(folder: Path, tmp_path: Path) -> None:
    words = "I think that this is a very good question, and I like it. " * 20
    record = extract(folder, {"a.mp4": words}, tmp_path)["a.mp4"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokens = tokenizer(words.strip(), add_special_tokens=False)["input_ids"]
    model = transformers.AutoModel.from_pretrained(folder).eval()
    states = []
    for start in range(0, len(tokens), 62):  # 64 with the two special tokens
        window = [tokenizer.cls_token_id, *tokens[start : start + 62], tokenizer.sep_token_id]
        with torch.no_grad():
            states.append(model(torch.tensor([window])).last_hidden_state[0, 1:-1])
    assert len(states) > 3
    assert record.arrays["transformer"][0] == pytest.approx(torch.cat(states).mean(0).numpy(), abs=1e-5)


def test_words_have_the_times_of_their_subtitle(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.srt").write_text(SRT)
    record = extract(folder, {"b.mp4": "no times here"}, tmp_path, ("words",))["b.mp4"]
    assert record.arrays["words"].shape == (1, 16)
    assert base.step_times(record, "words").tolist() == [0]
    settings = make_settings(files=[], kinds=["transformer", "words"], network=str(folder))
    record = text.Extractor(settings)(Raw("a.mp4", None, tmp_path))
    times = base.step_times(record, "words")
    assert times == pytest.approx([1 + 2.5 / 11, 1 + 8.5 / 11, 4])  # "Hello", "there", "unbelievable!"
    states = call_directly(folder, "Hello there unbelievable!")[-1]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    starts = [len(tokenizer.tokenize(part)) for part in ("", "Hello", "Hello there", "Hello there unbelievable!")]
    expected = [states[begin:end].mean(0) for begin, end in zip(starts, starts[1:], strict=False)]
    assert record.arrays["words"] == pytest.approx(torch.stack(expected).numpy(), abs=1e-5)
    assert base.step_times(record, "transformer").tolist() == [0]  # the other arrays have one step
    assert base.pool_steps(base.load("text"), record, False).shape == (16,)  # the baselines do not read single words


def test_encoder_reads_words_with_their_times(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.srt").write_text(SRT)
    settings = make_settings(files=[], kinds=["words"], network=str(folder))
    record = text.Extractor(settings)(Raw("a.mp4", None, tmp_path))
    options = {
        "kind": "vectors",
        "reads": ["text.words"],
        "take": "all",
        "steps": 1,
        "net": "linear",
        "width": 12,
        "heads": 4,
    }
    encoder = vectors_encoder.Settings(**options, depth=1, dropout=0.0, pool=1)
    streams = {"text": StreamInfo({}, {"words": [16]})}
    steps = make_inputs({"text": record}, {"words": encoder}, streams, None)["words"]["text.words"]
    assert steps.values.shape == (3, 16)
    assert steps.times == pytest.approx(record.arrays["words.times"])


def test_time_of_a_word_is_that_of_its_middle() -> None:
    words, times = split_timed_words(Transcript("", 0, (Cue("ab [x] cdef", 2, 9), Cue("g", 0, 1), Cue("[x]", 1, 2))))
    assert words == ["ab", "cdef", "g"]
    assert times == pytest.approx([2 + 7 * 1 / 7, 2 + 7 * 5 / 7, 0.5])
    words, times = split_timed_words(Transcript("a [b] c"))
    assert words == ["a", "c"]
    assert not len(times)


def test_positions_come_from_the_network_and_its_tokenizer(folder: Path, tmp_path: Path) -> None:
    settings = make_settings(files=[], kinds=["transformer"], network=str(folder))
    text_network = transformer.load_text_network(settings)
    assert text_network.longest == 64
    text_network.tokenizer.model_max_length = int(1e30)  # without a limit
    assert transformer.count_positions(text_network.network, text_network.tokenizer) == 64
    text_network.tokenizer.model_max_length = 40
    assert transformer.count_positions(text_network.network, text_network.tokenizer) == 40


def test_windows_are_divided_into_batches_of_similar_length() -> None:
    parts = list(transformer.divide_into_windows([2000, 10, 3000, 20, 1500]))
    assert parts == [[1, 3], [4, 0], [2]]


@pytest.mark.parametrize("family", ["bert", "distilbert", "gpt2"])
def test_vectors_of_other_families_equal_a_direct_call(folder: Path, tmp_path: Path, family: str) -> None:
    small = {"bert": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}}
    small["distilbert"] = {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32}
    small["gpt2"] = {"n_embd": 16, "n_layer": 2, "n_head": 2}
    config = transformers.AutoConfig.for_model(family, vocab_size=320, **small[family])
    network = tmp_path / family
    transformers.AutoModel.from_config(config).save_pretrained(network)
    for path in folder.glob("tokenizer*"):
        shutil.copy(path, network)
    together = extract(network, {"a.mp4": GREETING, "b.mp4": "we know " * 100, "c.mp4": "yes"}, tmp_path)
    expected = call_directly(network, SPOKEN)[-1].mean(0).numpy()
    assert together["a.mp4"].arrays["transformer"][0] == pytest.approx(expected, abs=1e-5)


def test_folders_that_are_not_text_models_are_rejected(folder: Path, tmp_path: Path) -> None:
    speech = make_speech_folder(tmp_path / "speech")
    for path in folder.glob("tokenizer*"):
        shutil.copy(path, speech)
    shutil.copytree(folder, tmp_path / "mute")
    for path in (tmp_path / "mute").glob("tokenizer*"):
        path.unlink()
    images = make_image_folder(tmp_path / "images")
    for network, message in (
        (images, r"text\.network = '.*images' reads pixel_values; allowed: a network that reads text"),
        (speech, r"text\.network = '.*speech' reads input_values; allowed: a network that reads text; name another"),
        (
            tmp_path / "mute",
            r"text\.network = '.*mute' has no vocabulary; allowed: a folder with one of .*tokenizer\.json",
        ),
        (tmp_path / "none", r"text\.network = '.*none' is n"),
    ):
        with pytest.raises(SettingError, match=message):
            extract(network, {"a.mp4": GREETING}, tmp_path)
    with pytest.raises(
        InputError, match=r"text\.layers = \[3\]; allowed for this network: last, mean, all, or numbers"
    ):
        extract(folder, {"a.mp4": GREETING}, tmp_path, layers=[3])


def test_files_of_the_text_network_enter_the_fingerprint(folder: Path) -> None:
    settings = make_settings(files=[], kinds=["words"], network=str(folder))
    names = [path.name for path in text.files(settings)]
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(names)
    assert text.files(make_settings(files=[], kinds=["counts"], network=str(folder))) == []


def test_text_batch_is_halved_when_memory_runs_out(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = {f"{number}.mp4": "we know you " * (number + 1) for number in range(5)}
    expected = extract(folder, texts, tmp_path)
    forward = transformers.RobertaModel.forward
    sizes: list[int] = []

    def run(network: Any, input_ids: torch.Tensor, **options: Any) -> Any:
        sizes.append(len(input_ids))
        if len(input_ids) > 1:
            raise torch.OutOfMemoryError
        return forward(network, input_ids=input_ids, **options)

    monkeypatch.setattr(transformers.RobertaModel, "forward", run)
    for clip, record in extract(folder, texts, tmp_path).items():
        assert record.arrays["transformer"] == pytest.approx(expected[clip].arrays["transformer"], abs=1e-5)
    assert max(sizes) > 1
    monkeypatch.setattr(torch.Tensor, "to", lambda *_: (_ for _ in ()).throw(MemoryError))
    with pytest.raises(
        InputError, match=r"text: memory of cpu does not suffice for .* tokens; lower parallel\.workers"
    ):
        transformer.run_windows(
            transformer.TextNetwork(None, FakeTokenizer, torch.device("cpu"), 8, "last"), [np.arange(3)]
        )


class FakeTokenizer:
    pad_token_id = 1


def test_benchmark_compares_batches_with_single_texts(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "benchmark.pkl").write_bytes(pickle.dumps({"a": GREETING, "b": "", "c": "we know"}))
    call_main(tools.benchmarks.text, tmp_path / "benchmark.pkl", "--network", folder)
    assert "3 transcripts; CPU seconds per clip: " in capsys.readouterr().out


@pytest.mark.slow
def test_model_learns_layers_of_words_from_subtitles(folder: Path, tmp_path: Path) -> None:
    project = StageRuns(tmp_path / "project")
    archives, rows = project.folder / "data/archives", []
    (archives / "embeddings").mkdir()
    for number in range(24):
        spoken = "good question" if number % 3 else "not there"
        (archives / f"p{number}.srt").write_text(f"1\n00:00:00,500 --> 00:00:02,000\nI think that this is {spoken}\n")
        content = {"emb": torch.full((30, 4), float(number % 3)), "length": 30}
        torch.save(content, archives / f"embeddings/p{number}.pt")
        split = ("training", "training", "validation", "test")[number // 3 % 4]
        rows.append({"clip": f"p{number}", "split": split, "warm": number % 3 / 2})
    project.use_table(
        pd.DataFrame(rows), *WITHOUT_VIDEO, "download.table.targets={warm: [0, 1]}", "targets.own.columns=[warm]",
        "targets.own.range=[0, 1]", "text.enabled=true", "text.files=[]", "text.kinds=[transformer, words]",
        f"text.network={folder}", "text.layers=all", "features.enabled=true", "features.files=[embeddings/*.pt]",
        "model.use=[text, features]", "model.encoders.text.reads=[text.words]", "train.epochs=2", "parallel.workers=1",
        "evaluate.resamples=100", "analyse.importance_clips=2", "analyse.control_repeats=1",
    )  # fmt: skip
    output = project.run_stages(draw=["layer_weights"])
    assert "text: 24 clips need about" in output
    weights = pd.read_csv(project.folder / "data/layer_weights.csv")
    assert weights[["encoder", "stream", "layer"]].to_numpy().tolist() == [["text", "text.words", i] for i in range(3)]
    assert weights["weight"].sum() == pytest.approx(1, abs=1e-5)
    assert (project.folder / "plots/figures/layer_weights.png").stat().st_size > 5000
    scores = pd.read_csv(project.folder / "data/scores.csv").query(
        "subset == 'all' and target == 'warm' and score == 'r2'"
    )
    r2 = scores.set_index("predictor")["value"]
    assert r2["ridge_features"] > 0.9
    assert r2["ridge_text"] > 0.5
    project.run_module("tools.export", "--stream", "text.words", "--format", "pt")
    exported = torch.load(project.folder / "data/export/text.words/p1.pt", weights_only=True)
    assert exported["emb"].shape == (7, 3, 16)
    assert exported["times"].diff().min() > 0
