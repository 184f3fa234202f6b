"""Load batches in worker processes, move them to the device, and gather values from several training processes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch.utils.data import DataLoader, Dataset

from lib.data.batch import Sample, collate

if TYPE_CHECKING:  # predictions do not need fabric, which takes a second to load
    from lightning_fabric import Fabric


def make_loader(
    fabric: "Fabric", clips: Dataset[Sample] | Sequence[Sample], parts: list[list[int]], workers: int
) -> Any:
    """Return a loader that yields a batch for each list of clip indices in `parts`, read ahead by `workers` processes."""
    return fabric.setup_dataloaders(
        DataLoader(
            cast(Dataset[Sample], clips),  # DataLoader also accepts a list
            batch_sampler=parts,
            num_workers=workers,
            collate_fn=collate,
            pin_memory=fabric.device.type == "cuda",
            generator=torch.Generator(),
        ),
        use_distributed_sampler=False,
    )


def gather(fabric: "Fabric", value: Any) -> list[Any]:
    """Return the values of all processes, in every process."""
    if fabric.world_size == 1:
        return [value]
    values: list[Any] = [None] * fabric.world_size
    torch.distributed.all_gather_object(values, value)
    return values


def to_device(batch: Sample, device: torch.device) -> Sample:
    """Return the batch with all tensors on a device."""
    return apply_to_collection(batch, torch.Tensor, lambda tensor: tensor.to(device))
