"""Terms of the loss for fairness between groups of persons: an adversary, or matched representations; each by name."""

from itertools import combinations
from typing import Any, cast

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional

from lib.training.fairness import UNKNOWN

_UNITS, _STEPS, _RATE, _DECAY = 64, 10, 0.01, 0.1
"""Hidden units, steps for each part of a batch, learning rate and L2 penalty of the adversary."""
_SCALES = (0.5, 1.0, 2.0)


class FairnessTerm(nn.Module):
    """A term of the loss that compares groups of persons. Read this before writing one, then add it to TERMS, and its
    name to `lib.training.fairness.TERMS`.

    width: D of the fused vectors. counts (G,): number of training clips of each group. weight: train.fairness_weight.
    `forward` returns a number, the mean over the clips of known group, and 0 if a part of a batch has too few of them. It
    multiplies the gradient that reaches `fused` by the weight.
    """

    def __init__(self, width: int, counts: Tensor, weight: float) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, fused: Tensor, groups: Tensor) -> Tensor:
        """Return the term for fused vectors (B, D) of clips with group codes (B,)."""
        raise NotImplementedError


class Adversary(FairnessTerm):
    """Cross-entropy of a network that recognises the group from the fused vector, with a reversed gradient.

    The adversary learns to recognise the group; the gradient that reaches the fused vector has the opposite sign (Ganin et
    al. 2016, Domain-adversarial training of neural networks). The adversary has an optimizer of its own and takes _STEPS
    steps for each part of a batch: one that lags behind makes the fused vector change sides in place of hiding the group.
    Its L2 penalty keeps it from being certain, because its gradient vanishes then. It reads vectors of unit variance:
    longer vectors do not hide the group. The weight is constant: with a rising weight, early stopping on the validation
    loss would keep an epoch before the adversary has an effect. Groups count equally, whatever their frequency.
    """

    def __init__(self, width: int, counts: Tensor, weight: float) -> None:
        super().__init__(width, counts, weight)
        self.layers = nn.Sequential(nn.Linear(width, _UNITS), nn.ReLU(), nn.Linear(_UNITS, len(counts)))
        self.register_buffer("balance", counts.sum() / (len(counts) * counts))
        self.optimizer = torch.optim.Adam(self.layers.parameters(), lr=_RATE, weight_decay=_DECAY)

    def forward(self, fused: Tensor, groups: Tensor) -> Tensor:
        """Train the adversary on the clips; return its cross-entropy."""
        has_group = groups != UNKNOWN
        vectors, labels = fused.float()[has_group], groups[has_group]  # can be empty: each process shares its gradients
        centre = vectors.detach().sum(0) / max(len(vectors), 1)
        scale = ((vectors.detach() - centre).square().sum() / max(vectors.numel(), 1)).sqrt().clamp(min=1e-6)
        for _ in range(_STEPS):
            self.optimizer.zero_grad()
            self._compare((vectors.detach() - centre) / scale, labels).backward()
            self._share_gradients()
            self.optimizer.step()
        # equals vectors, with a gradient of -weight
        reverse = (1 + self.weight) * vectors.detach() - self.weight * vectors
        self.layers.requires_grad_(False)
        value = self._compare((reverse - centre) / scale, labels)
        self.layers.requires_grad_(True)
        return value

    def _compare(self, vectors: Tensor, labels: Tensor) -> Tensor:
        """Return the cross-entropy; the mean over groups of equal weight."""
        of_each = functional.cross_entropy(self.layers(vectors), labels, reduction="none")
        return (cast(Tensor, self.balance)[labels] * of_each).sum() / max(len(labels), 1)

    def _share_gradients(self) -> None:
        """Average the gradients over processes, so that all have the same adversary."""
        if distributed.is_available() and distributed.is_initialized():
            for parameter in self.layers.parameters():
                if parameter.grad is not None:
                    distributed.all_reduce(parameter.grad)
                    parameter.grad.div_(distributed.get_world_size())

    def get_extra_state(self) -> dict[str, Any]:
        """Return the optimizer's state, so that an interrupted training continues identically."""
        return self.optimizer.state_dict()

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Load the optimizer's state."""
        self.optimizer.load_state_dict(state)


class Matching(FairnessTerm):
    """Squared maximum mean discrepancy between the fused vectors of each two groups, averaged over the pairs.

    The unbiased estimate of Gretton et al. (2012, A kernel two-sample test, equation 3), with the mean of three Gaussian
    kernels, whose squared widths are 0.5, 1 and 2 times the median squared distance. Clips are compared within a part of a
    batch, so train.accumulate makes the estimate noisier. A group with fewer than two clips there is left out.
    """

    def __init__(self, width: int, counts: Tensor, weight: float) -> None:
        super().__init__(width, counts, weight)
        self._groups = range(len(counts))

    def forward(self, fused: Tensor, groups: Tensor) -> Tensor:
        """Return the weight times the discrepancy."""
        members = [rows for code in self._groups if len(rows := (groups == code).nonzero()[:, 0]) > 1]
        if len(members) < 2:
            return 0 * fused.float().sum()
        kernel = _compare_vectors(fused[torch.cat(members)].float())
        counts = [len(rows) for rows in members]
        blocks = [rows.split(counts, 1) for rows in kernel.split(counts)]
        within = [(blocks[a][a].sum() - count) / (count * (count - 1)) for a, count in enumerate(counts)]
        discrepancies = [
            within[a] + within[b] - 2 * blocks[a][b].mean() for a, b in combinations(range(len(counts)), 2)
        ]
        return self.weight * torch.stack(discrepancies).mean()


def _compare_vectors(vectors: Tensor) -> Tensor:
    """Return the kernel (B, B) of vectors (B, D)."""
    centred = vectors - vectors.mean(0, keepdim=True).detach()  # differences of large numbers lose digits
    squares = centred.square().sum(1)
    distances = (squares[:, None] + squares - 2 * centred @ centred.T).clamp(min=0)
    off_diagonal = ~torch.eye(len(vectors), dtype=torch.bool, device=vectors.device)
    distances = torch.where(off_diagonal, distances, 0)
    median = distances[off_diagonal].median().detach().clamp(min=1e-12)
    return torch.stack([(-distances / (scale * median)).exp() for scale in _SCALES]).mean(0)


TERMS: dict[str, type[FairnessTerm]] = {"adversarial": Adversary, "matching": Matching}


def make_term(name: str, network: nn.Module, counts: Tensor | None, weight: float) -> FairnessTerm | None:
    """Return the term of train.fairness = `name` for the fused vectors of a network; None if it adds none.

    counts (G,): number of training clips of each group.
    """
    if name not in TERMS or counts is None:
        return None
    fusion: Any = network.fusion
    return TERMS[name](fusion.vectors * fusion.output_dim, counts, weight)
