"""Publish a trained model as a folder that others can load, and check such a folder."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lib.core.errors import InputError
from lib.media.writing import write_video
from lib.model import checkpoint, folder
from lib.report.licences import make_licences
from lib.serving.output import to_json
from lib.serving.predictor import Predictor
from lib.sources.demo.head import SAMPLE_RATE, Identity, Performance, render

CARD, LICENCES = "README.md", "LICENSES.md"
CLIP, EXPECTED = "smoke_test/clip.mp4", "smoke_test/expected.json"
_FPS = 25
_SECONDS = 3.0, 15.0
"""Shortest and longest smoke-test clip."""
_PROVENANCE = ("commit", "commit_date", "versions", "hardware", "clips", "seed")
"""What the model's file and data/provenance.json both say about a training."""
_USE = """
## Use

Install the project's package (`pip install FILE.whl`, or `pip install .` in the repository), then:

```python
from apparent_personality import Predictor

predictor = Predictor.from_pretrained("FOLDER")  # this folder, or its name on the hub
print(predictor("talk.mp4"))
```

`apparent-personality predict talk.mp4 --model FOLDER` prints the same. `apparent-personality publish FOLDER --check`
predicts `smoke_test/clip.mp4`, which the project rendered, and compares the scores with those in `smoke_test/expected.json`.
In the repository's folder, `python -m tools.predict` and `python -m tools.publish` do the same without an installation.

| file | content |
|---|---|
| `model.safetensors` | the weights |
| `config.json` | encoders, streams, targets, statistics of the training clips, versions |
| `preprocessing.json` | settings of streams; `requires` lists files that have to be present, `packages` versions |
| `LICENSES.md` | licences of data sets, weights and packages |
"""


def publish(model: Path, card: Path, provenance: Path, to: Path) -> None:
    """Write the folder `to` of a trained model.

    card, provenance: the model card and data/provenance.json, which describe the model's evaluation. Raises InputError if
    `to` exists and is not empty, if the card is missing, or if it describes another training.
    """
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise InputError(f"{to} exists; allowed: a new or an empty folder; remove it, or choose another")
    trained = checkpoint.load(model, torch.device("cpu"))
    _check_card(trained.provenance, card, provenance)
    saved = checkpoint.read(model)
    partial = to.with_name(f"{to.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / CLIP).parent.mkdir(parents=True)
    folder.write(saved, partial)
    preprocessing = json.loads((partial / folder.PREPROCESSING).read_text())
    licences = make_licences(
        trained.training.corpora, saved["model"]["encoders"], preprocessing["requires"], preprocessing["packages"]
    )
    (partial / LICENCES).write_text(licences)
    (partial / CARD).write_text(card.read_text() + _USE + describe_requirements(preprocessing["requires"]))
    write_smoke_test(partial, trained.training.seconds[0] if trained.training.seconds else 0.0)
    if to.exists():
        to.rmdir()
    partial.rename(to)


def describe_requirements(requires: Mapping[str, Any]) -> str:
    """Return a table of the files that have to be present, besides the folder."""
    lines = [
        f"| `{file['file']}` | {stream} | {file['package'] or file['source'] or 'its own source'} | {file['sha256'][:12]} |"
        for stream, files in requires.items()
        for file in files
    ]
    if not lines:
        return "\nPrediction needs no other files.\n"
    titles = ["| file | stream | package, network or command that provides it | sha256 |", "|---|---|---|---|"]
    return "\nThese files have to be present too:\n\n" + "\n".join([*titles, *lines]) + "\n"


def write_smoke_test(published: Path, seconds: float) -> None:
    """Render a clip of about the length of the training clips, and write it with its prediction."""
    length = min(max(seconds, _SECONDS[0]), _SECONDS[1])
    frames, voice = render(Identity(1), Performance(0.3, 1.0, 0.2, 1), length, _FPS)
    write_video(published / CLIP, frames, _FPS, voice, SAMPLE_RATE)
    expected = predict_smoke_test(published)
    (published / EXPECTED).write_text(json.dumps(expected, indent=2) + "\n")


def predict_smoke_test(published: Path) -> dict[str, Any]:
    """Return the prediction of a folder's smoke-test clip as in the output of tools.predict."""
    prediction = Predictor.from_pretrained(published, device=torch.device("cpu"))(published / CLIP)
    return to_json(prediction) | {"clip": CLIP}


def measure_difference(published: Path) -> float:
    """Return the largest difference between the scores of the smoke-test clip now and the expected scores.

    Raises InputError if the clip is rejected now but was not, or the reverse.
    """
    try:
        expected = json.loads((published / EXPECTED).read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{published / EXPECTED} can't be read ({error}); get the folder again") from None
    predicted = predict_smoke_test(published)
    if bool(expected["rejected"]) != bool(predicted["rejected"]):
        reasons = [predicted["rejected"] or "accepted", expected["rejected"] or "accepted"]
        raise InputError(f"{published / CLIP}: {reasons[0]}; expected: {reasons[1]}. Do not use the folder here")
    return max(
        (
            abs(estimate["score"] - predicted["targets"][group][column]["score"])
            for group, estimates in expected["targets"].items()
            for column, estimate in estimates.items()
        ),
        default=0.0,
    )


def _check_card(recorded: Mapping[str, Any], card: Path, provenance: Path) -> None:
    for path in (card, provenance):
        if not path.is_file():
            raise InputError(f"{path} is missing; it describes the model's evaluation: run `dvc repro`")
    described = json.loads(provenance.read_text())
    different = [name for name in _PROVENANCE if recorded.get(name) != described.get(name)]
    if different:
        raise InputError(
            f"{provenance} describes another training than the model ({', '.join(different)} differ); allowed: the card of"
            " this model; run `dvc repro`"
        )
