"""Vectors of a transcript and of its words from a pretrained language model, such as RoBERTa."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lib.core import pretrained
from lib.core.errors import InputError, prefix_errors
from lib.core.hidden_states import Layers, select_states
from lib.core.pretrained import PretrainedSettings
from lib.streams.text.transcripts import Transcript
from lib.streams.text.vectors import split_timed_words

if TYPE_CHECKING:  # not needed to read the stream's shards
    import torch

TRANSFORMER, WORDS = "transformer", "words"
"""The arrays: one vector per clip, and one per word."""

Arrays = dict[str, np.ndarray]
"""A transcript's arrays by name."""

_LONGEST = 512  # tokens per window, for networks without a limit
_TOKENS = 4096  # per batch, padding included


class TextNetwork(NamedTuple):
    """A network with its tokenizer, on a device. longest: tokens per window, special tokens included."""

    network: Any
    tokenizer: Any
    device: "torch.device"
    longest: int
    layers: Layers


class TokenStates(NamedTuple):
    """Hidden states (N, D) or (N, L, D) of a text's tokens, without special ones, and each token's last character (N,)."""

    values: np.ndarray
    last: np.ndarray


def make_transformer(
    settings: PretrainedSettings, kinds: Sequence[str]
) -> Callable[[list[Transcript]], list[Arrays | str]]:
    """Return a function from transcripts to the arrays `kinds` of each, or to the reason why it is rejected.

    transformer (1, D): the mean over all tokens. words (W, D) with `words.times` (W,): the mean over each word's tokens, if
    the transcript has times; otherwise the vector of the clip at 0 s. With several layers, D becomes (L, D), float16. Raises
    InputError if the network can't be used.
    """
    text_network = load_text_network(settings)

    def make(transcripts: list[Transcript]) -> list[Arrays | str]:
        timed_words = [split_timed_words(transcript) for transcript in transcripts]
        texts = [" ".join(words) for words, _ in timed_words]
        arrays: list[Arrays | str] = []
        for states, (words, times) in zip(compute_states(text_network, texts), timed_words, strict=True):
            if not len(states.values):
                arrays.append("the tokenizer finds no token")
            elif not np.isfinite(states.values).all():
                arrays.append("the network's hidden states are not finite")
            else:
                vectors = {TRANSFORMER: states.values.mean(0, keepdims=True)}
                if WORDS in kinds:
                    vectors |= _average_words(states, words, times) if len(times) else _take_clip(vectors[TRANSFORMER])
                arrays.append(
                    {name: _store(array) for name, array in vectors.items() if name.partition(".")[0] in kinds}
                )
        return arrays

    return make


def find_files(settings: PretrainedSettings) -> list[Path]:
    """Return the files of the network's folder."""
    with prefix_errors("text."):
        return pretrained.list_files(settings.find_folder())


def load_text_network(settings: PretrainedSettings) -> TextNetwork:
    """Return the network and the tokenizer. Raises InputError if they are missing, or the network does not read text."""
    from lib.core.device import best_device

    with prefix_errors("text."):
        folder = settings.find_folder()
        network: Any = pretrained.load_network(folder, allow_code=settings.allow_code)
        if network.config.is_encoder_decoder:
            network = network.get_encoder()
        network = getattr(network, "text_model", network)  # of a network for images and text, such as CLIP
        if network.main_input_name != "input_ids":
            raise InputError(
                f"network = {settings.network!r} reads {network.main_input_name}; allowed: a network that reads text; name"
                " another network"
            )
        tokenizer = pretrained.load_tokenizer(folder)
        if not tokenizer.is_fast:
            raise InputError(
                f"network = {settings.network!r} has a tokenizer without character positions; allowed: one with"
                " tokenizer.json; name another network"
            )
    device = best_device()
    return TextNetwork(network.to(device), tokenizer, device, count_positions(network, tokenizer), settings.layers)


def count_positions(network: Any, tokenizer: Any) -> int:
    """Return the largest number of tokens that a network reads at once; 512 if neither network nor tokenizer limits it."""
    positions = getattr(network.config, "max_position_embeddings", None)
    longest = min(tokenizer.model_max_length, positions or tokenizer.model_max_length)
    for name, module in network.named_modules():
        padding = getattr(module, "padding_idx", None)
        if name.endswith("position_embeddings") and padding is not None:  # RoBERTa's positions begin after it
            longest = min(longest, module.num_embeddings - padding - 1)
    return longest if longest < 1 << 20 else _LONGEST  # tokenizers write "no limit" as a large number


def compute_states(text_network: TextNetwork, texts: Sequence[str]) -> list[TokenStates]:
    """Return the hidden states of each text's tokens. Longer texts than the network reads are divided into windows.

    Windows follow each other without overlap. Windows of all texts are computed together, sorted by length.
    """
    encoded = text_network.tokenizer(
        list(texts), truncation=True, max_length=text_network.longest, return_overflowing_tokens=True,
        return_offsets_mapping=True, return_special_tokens_mask=True,
    )  # fmt: skip
    windows = [np.array(window) for window in encoded["input_ids"]]
    states: list[np.ndarray] = [np.zeros(0)] * len(windows)
    for part in divide_into_windows([len(window) for window in windows]):
        for index, values in zip(part, run_windows(text_network, [windows[index] for index in part]), strict=True):
            states[index] = values
    parts: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in texts]
    for index, text in enumerate(encoded["overflow_to_sample_mapping"]):
        is_text = np.array(encoded["special_tokens_mask"][index]) == 0
        last = np.array(encoded["offset_mapping"][index])[:, 1] - 1
        parts[text].append((states[index][is_text], last[is_text]))
    return [TokenStates(*map(np.concatenate, zip(*part, strict=True))) for part in parts]


def divide_into_windows(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yield the indices of windows of similar length, in batches of up to 4096 tokens with padding."""
    part: list[int] = []
    for index in np.argsort(lengths, kind="stable"):
        if part and lengths[index] * (len(part) + 1) > _TOKENS:
            yield part
            part = []
        part.append(int(index))
    if part:
        yield part


def run_windows(text_network: TextNetwork, windows: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the hidden states (N, D) or (N, L, D) of each window's N tokens, float32.

    If memory runs out, the windows are computed in two halves. Raises InputError if a single window does not fit.
    """
    import torch

    from lib.core.device import ran_out_of_memory  # not needed to read the stream's shards

    length = max(map(len, windows))
    padding = text_network.tokenizer.pad_token_id or 0
    tokens = torch.tensor(np.stack([np.pad(row, (0, length - len(row)), constant_values=padding) for row in windows]))
    mask = torch.arange(length) < torch.tensor([[len(row)] for row in windows])
    layers, device = text_network.layers, text_network.device
    try:
        with torch.inference_mode():
            output = text_network.network(
                input_ids=tokens.to(device),
                attention_mask=mask.long().to(device),
                output_hidden_states=layers != "last",
            )
    except (MemoryError, RuntimeError) as error:
        if not ran_out_of_memory(error):
            raise
        if len(windows) == 1:
            raise InputError(
                f"text: memory of {device.type} does not suffice for {length} tokens; lower parallel.workers, or set"
                " text.network to a smaller network"
            ) from None
        half = len(windows) // 2
        return run_windows(text_network, windows[:half]) + run_windows(text_network, windows[half:])
    with prefix_errors("text."):
        states = select_states(output, layers)
    return [values[: len(row)].float().cpu().numpy() for values, row in zip(states, windows, strict=True)]


def _average_words(states: TokenStates, words: Sequence[str], times: np.ndarray) -> dict[str, np.ndarray]:
    """Return the mean state of each word's tokens, and the words' times, in order of time.

    A token belongs to the word of its last character, a space to the word after it. A word without a token is left out.
    """
    ends = np.cumsum([len(word) + 1 for word in words]) - 1  # of each word in the text, and of the space after it
    word_of_token = np.searchsorted(ends, states.last, side="right")
    present = np.unique(word_of_token)
    values = np.stack([states.values[word_of_token == word].mean(0) for word in present])
    order = np.argsort(times[present], kind="stable")
    return {WORDS: values[order], f"{WORDS}.times": times[present][order]}


def _take_clip(values: np.ndarray) -> dict[str, np.ndarray]:
    return {WORDS: values, f"{WORDS}.times": np.zeros(1)}


def _store(array: np.ndarray) -> np.ndarray:
    """Return vectors as float32, vectors of several layers as float16; times are unchanged."""
    return array if array.ndim == 1 else array.astype(np.float16 if array.ndim == 3 else np.float32)
