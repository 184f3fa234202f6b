"""How the learning rates rise and fall, and which clips an epoch's batches hold."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch

_PLATEAU = 3  # epochs without a better validation loss after which the plateau schedule halves the rates


def factor(
    schedule: str,
    epoch: float,
    warmup: int,
    epochs: int,
    losses: Sequence[float],
    steps: int = 1,
    offset: float = 0.1,
) -> float:
    """Return the factor of the learning rates at a fraction of an epoch; `losses` are the validation losses so far.

    After a linear rise over `warmup` epochs, begun `offset` of an epoch before: "cosine" falls to 0, "plateau" is halved
    each time that the validation loss has not improved for three epochs. "cosine_by_step" rises from 0 at the first to 1 at
    the last of the warm-up's steps, of which an epoch has `steps`, then falls to 0 (Chen et al. 2023, S2D).
    """
    if schedule == "cosine_by_step":
        step, rise = round(epoch * steps), warmup * steps
        return step / max(rise - 1, 1) if step < rise else _cosine(step - rise, epochs * steps - rise)
    if epoch < warmup:
        return (epoch + offset) / (warmup + offset)
    if schedule == "cosine":
        return _cosine(epoch - warmup, epochs - warmup)
    found, best, since = 1.0, math.inf, 0
    for loss in losses:
        since = 0 if loss < best else since + 1
        best = min(best, loss)
        if since == _PLATEAU:
            found, since = found / 2, 0
    return found


def _cosine(at: float, of: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * at / max(of, 1)))


def epochs_since_best(losses: Sequence[float]) -> int:
    """Return how many epochs ago the lowest loss was, 0 if there is none yet."""
    return len(losses) - 1 - losses.index(min(losses)) if losses else 0


def mixed(corpora: np.ndarray, mix: Mapping[str, float], chance: torch.Generator) -> list[int]:
    """Return the indices of an epoch's clips: each clip of a corpus as often as `mix` says, 1 where it says nothing; what is
    beyond a whole number by chance."""
    members: list[int] = []
    for corpus in sorted(set(corpora)):
        of_corpus, times = np.flatnonzero(corpora == corpus).tolist(), mix.get(corpus, 1.0)
        members += of_corpus * int(times)
        if part := round((times - int(times)) * len(of_corpus)):
            members += [of_corpus[at] for at in torch.randperm(len(of_corpus), generator=chance)[:part].tolist()]
    return sorted(members)


def batches(members: Sequence[int], size: int, chance: torch.Generator) -> list[list[int]]:
    """Return an epoch's batches of clips in random order; a last batch that isn't full is left out, if it isn't the only
    one: batch norm would suffer from a batch of one."""
    order = [members[at] for at in torch.randperm(len(members), generator=chance).tolist()]
    whole = max(size, len(order) - len(order) % size)
    return [order[at : at + size] for at in range(0, min(whole, len(order)), size)]


def parts(of: Sequence[list[int]], accumulate: int) -> list[list[int]]:
    """Divide each batch into up to `accumulate` parts of equal size."""
    divided = []
    for members in of:
        size = math.ceil(len(members) / accumulate)
        divided += [members[at : at + size] for at in range(0, len(members), size)]
    return divided
