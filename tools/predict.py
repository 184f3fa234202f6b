"""Predict the five traits of video clips with the trained model, through the same functions as the pipeline's stages."""

import argparse
import csv
import sys
from pathlib import Path

import torch

from lib.core import command
from lib.core.device import best_device
from lib.core.errors import InputError
from lib.data import dataset
from lib.model import checkpoint
from lib.model.checkpoint import Served
from lib.streams import frames
from lib.streams.faces.align import Aligner
from lib.streams.flow import make


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "clips", nargs="+", type=Path, metavar="CLIP", help="a video file (after -- if it begins with a dash)"
    )
    parser.add_argument("--model", type=Path, default=Path("data/model.pt"), help="a trained model (%(default)s)")
    arguments = parser.parse_args()
    device = best_device()
    served = checkpoint.load(arguments.model, device)
    aligner = Aligner(**served.parameters["faces"], device=device)
    writer = csv.writer(sys.stdout)
    writer.writerow(["clip", *served.network.predicts, "refused"])
    refused = 0
    for clip in arguments.clips:
        try:
            writer.writerow([clip, *(f"{value:.6f}" for value in predict(clip, served, aligner, device)), ""])
        except InputError as error:
            writer.writerow([clip, *[""] * len(served.network.predicts), error])
            refused += 1
    sys.exit(1 if refused else 0)


@torch.no_grad()
def predict(clip: Path, served: Served, aligner: Aligner, device: torch.device) -> list[float]:
    """Return the scores of a video file, named by the network's `predicts`. Raises InputError saying why if it can't be
    used."""
    settings = served.parameters
    if not clip.is_file():
        raise InputError(f"{clip} is no file")
    faces = aligner(frames.sample(clip, clip.name, **settings["frames"]))
    solver = {key: value for key, value in settings["flow"].items() if key not in ("backend", "bound")}
    solver["lambda_"] = solver.pop("lambda")
    flow = make.flow(faces, settings["flow"]["backend"], solver, settings["flow"]["bound"], device)
    if flow.refused:
        raise InputError(flow.refused)
    scale = flow.attributes["scale"]
    sample = dataset.sample_of(faces.arrays, flow.arrays, scale, settings["model"]["static"]["frames"], rng=None)
    batch = {key: value.to(device) for key, value in dataset.collate([sample]).items()}
    return served.network(batch)[0][0].float().cpu().tolist()


if __name__ == "__main__":
    command.run(main)
