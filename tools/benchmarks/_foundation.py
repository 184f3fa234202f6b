"""The measurements of tools.benchmarks.foundation."""

import argparse
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lib.core import parameters
from lib.core.device import best_device, describe_device
from lib.core.errors import InputError
from lib.core.shards import Record
from lib.data.batch import Inputs, Sample, collate
from lib.data.dataset import make_inputs
from lib.data.inputs import list_streams
from lib.data.loading import to_device
from lib.model.network import Network
from lib.streams import base
from lib.streams._extraction import extract_clip
from lib.streams.base import RAW, Raw, StreamInfo
from lib.training.settings import Parameters
from tools.parameters import merge_parameters, plain

WORDS = "Most important thing, make sure your lighting is good. If you have the money to buy lights, I recommend that, too. "
"""The transcript is these words twice, about as many as a clip of FIV2 has."""


def run(arguments: argparse.Namespace) -> None:
    """Measure, and print the tables."""
    for clip in arguments.clips:
        if not clip.is_file():
            raise InputError(f"{clip} is not a file; allowed: video files; correct the path")
    with tempfile.TemporaryDirectory() as folder:
        networks = write_networks(Path(folder, "networks"))
        values = plain(merge_parameters("fiv2_foundation", [*networks, *arguments.set]))
        print(f"params/fiv2_foundation.yaml on {describe_device(best_device())}; {len(arguments.clips)} clips\n")
        print("| part | loading s | s per clip | bytes per clip | peak GiB |\n|---|---|---|---|---|")
        for row in measure(values, arguments.clips, Path(folder)):
            print(f"| {row} |", flush=True)


def write_networks(folder: Path) -> list[str]:
    """Write random networks of the true sizes, and return the changes KEY=VALUE of the parameters that name them."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    dino = transformers.Dinov2Config(image_size=518, patch_size=14)
    roberta = transformers.RobertaConfig(vocab_size=50265, max_position_embeddings=514, type_vocab_size=1)
    for name, config in (("image", dino), ("speech", transformers.WavLMConfig()), ("text", roberta)):
        transformers.AutoModel.from_config(config).save_pretrained(folder / name)
    crop = {"height": 224, "width": 224}
    transformers.BitImageProcessor(size={"shortest_edge": 256}, crop_size=crop).save_pretrained(folder / "image")
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder / "speech")
    words = WORDS.replace(",", " ,").replace(".", " .").split()
    vocabulary = {word: number for number, word in enumerate(["<s>", "<pad>", "</s>", "<unk>", *dict.fromkeys(words)])}
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", model_max_length=512
    ).save_pretrained(folder / "text")
    sections = {"embeddings": "image", "scenes": "image", "speech": "speech", "text": "text"}
    return [f"{section}.network={folder / name}" for section, name in sections.items()]


def measure(values: dict[str, Any], clips: list[Path], folder: Path) -> Iterator[str]:
    """Yield a row of the table for each stream that the model reads or needs, and for a training step on all clips."""
    values["text"]["files"] = []
    raws = [_with_words(clip, folder) for clip in clips]
    settings = parameters.check({key: values[key] for key in ("model", "targets", "train")}, Parameters)
    settings_by_encoder, infos = settings.model.settings_by_encoder(), dict[str, StreamInfo]()
    records: list[dict[str, Record]] = [{} for _ in clips]
    names = [needed for read in list_streams(settings_by_encoder) for needed in base.list_with_inputs(read, values)]
    for name in dict.fromkeys(names):
        stream, started = base.load(name), clock()
        make = stream.make_extractor(parameters.check(values[name], stream.settings, name))
        loaded, size = clock(), 0
        for raw, by_stream in zip(raws, records, strict=True):
            inputs = [raw if key == RAW else by_stream[key] for key in stream.inputs_of(values[name])]
            by_stream[name] = extract_clip(make, inputs)
            if by_stream[name].rejected:
                raise InputError(
                    f"{raw.clip}: {by_stream[name].rejected}; allowed: clips that no stream rejects; name another clip"
                )
            size += sum(array.nbytes for array in by_stream[name].arrays.values())
        seconds = (clock() - loaded) / len(clips)
        infos[name] = StreamInfo(values[name], _shapes(name, records[0][name]))
        yield f"{name} | {loaded - started:.1f} | {seconds:.2f} | {size // len(clips)} | {peak_memory():.1f}"
        del make
    targets = settings.model.select_targets(settings.targets)
    network = Network.from_settings(settings.model, targets, infos).to(best_device())
    samples = [Sample(make_inputs(by_stream, settings_by_encoder, infos, None), {}, 0) for by_stream in records]
    seconds = _time_training_step(network, to_device(collate(samples), best_device()).inputs, settings)
    yield f"training step | | {seconds / len(clips):.3f} | | {peak_memory():.1f}"


def clock() -> float:
    """Return CPU seconds of this process; with a GPU, seconds."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def peak_memory() -> float:
    """Return the largest memory of this process in GiB; on a GPU, that of the GPU."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 2**20


def _with_words(clip: Path, folder: Path) -> Raw:
    """Return a link to a clip, with a transcript, in a folder."""
    folder.mkdir(exist_ok=True)
    link = folder / clip.name
    link.symlink_to(clip.resolve())
    link.with_suffix(".txt").write_text(WORDS * 2)
    return Raw(clip.name, link, None)


def _shapes(name: str, record: Record) -> dict[str, list[int]]:
    stream = base.load(name)
    return {key: list(stream.read(record, np.array([0]), key).shape[1:]) for key in stream.arrays or ("",)}


def _time_training_step(network: Network, inputs: Inputs, settings: Parameters) -> float:
    """Return the seconds of a forward pass, a backward pass and an update. Raises InputError if the loss is not finite."""
    optimizer = torch.optim.AdamW(network.train().parameters(), settings.train.learning_rate["default"])
    started = clock()
    predicted: Mapping[str, torch.Tensor] = network(inputs).predicted
    loss = torch.stack([values.square().mean() for values in predicted.values()]).sum()
    loss.backward()
    optimizer.step()
    if not loss.isfinite():
        raise InputError("the loss is not finite; allowed: networks with finite vectors; name another network")
    return clock() - started
