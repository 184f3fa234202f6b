"""Which clips an epoch has, and in which batches."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch


def mix_corpora(corpora: np.ndarray, mix: Mapping[str, float], rng: torch.Generator) -> list[int]:
    """Return the indices of an epoch's clips: each clip of a corpus as often as `mix` says, by default once. Which clips
    make up a fraction is random."""
    members: list[int] = []
    for corpus in sorted(set(corpora)):
        of_corpus, times = np.flatnonzero(corpora == corpus).tolist(), mix.get(corpus, 1.0)
        members += of_corpus * int(times)
        if part := round((times - int(times)) * len(of_corpus)):
            members += [of_corpus[index] for index in torch.randperm(len(of_corpus), generator=rng)[:part].tolist()]
    return sorted(members)


def draw_batches(members: Sequence[int], size: int, rng: torch.Generator) -> list[list[int]]:
    """Return an epoch's batches of clips in random order. A last batch that isn't full is left out unless it is the only
    one: batch norm can't use a batch of one."""
    order = [members[index] for index in torch.randperm(len(members), generator=rng).tolist()]
    full = max(size, len(order) - len(order) % size)
    return [order[start : start + size] for start in range(0, min(full, len(order)), size)]


def split_batches(batches: Sequence[list[int]], accumulate: int) -> list[list[int]]:
    """Divide each batch into up to `accumulate` parts of equal size."""
    parts = []
    for members in batches:
        size = math.ceil(len(members) / accumulate)
        parts += [members[start : start + size] for start in range(0, len(members), size)]
    return parts
