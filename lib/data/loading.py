"""Batches on the device, in one process or shared out among several."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch.utils.data import DataLoader, Dataset

from lib.data.batch import Sample, collate

if TYPE_CHECKING:  # it takes a second to load, and a prediction needs none
    from lightning_fabric import Fabric


def make_loader(
    fabric: "Fabric", clips: Dataset[Sample] | Sequence[Sample], parts: list[list[int]], workers: int
) -> Any:
    """Return what yields a batch for each of `parts`, which are indices of clips, read ahead by `workers` processes."""
    return fabric.setup_dataloaders(
        DataLoader(
            cast(Dataset[Sample], clips),  # a list is as good
            batch_sampler=parts,
            num_workers=workers,
            collate_fn=collate,
            pin_memory=fabric.device.type == "cuda",
            generator=torch.Generator(),
        ),
        use_distributed_sampler=False,
    )


def gather(fabric: "Fabric", value: Any) -> list[Any]:
    """Return every process's value, in all of them."""
    if fabric.world_size == 1:
        return [value]
    values: list[Any] = [None] * fabric.world_size
    torch.distributed.all_gather_object(values, value)
    return values


def to_device(batch: Sample, device: torch.device) -> Sample:
    """Return the batch with all its tensors there."""
    return apply_to_collection(batch, torch.Tensor, lambda tensor: tensor.to(device))
