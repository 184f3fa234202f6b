"""The licences that concern a published model: of data sets, weights that it needs or started from, and packages."""

import importlib.metadata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lib.core.weight_files import WEIGHT_SETS

DATA_SETS = {
    "fiv2": ("First Impressions V2", "the terms of ChaLearn, which you accept at registration"),
    "mosei": ("CMU-MOSEI", "the terms of its distributors"),
    "vlogs": ("YouTube Personality", "the terms of its distributors"),
    "demo": ("the demo", "rendered from scikit-image's `astronaut` (Eileen Collins, by NASA, public domain)"),
    "demo_emotions": ("the demo", "rendered from scikit-image's `astronaut` (Eileen Collins, by NASA, public domain)"),
}
"""Name and licence of the data set of each source; docs/licences.md has the same."""
_CLASSIFIER_IS_WRONG = {"opensmile": "openSMILE"}
"""Licences of packages whose classifier disagrees with the text of the licence in their metadata."""
_UNKNOWN = "read it at its source"
_TORCHVISION = (
    "BSD (torchvision); ImageNet is for non-commercial research and teaching, Kinetics consists of YouTube videos"
)


def make_licences(
    corpora: Sequence[str], encoders: Mapping[str, Any], requires: Mapping[str, Any], packages: Mapping[str, str]
) -> str:
    """Return the page as Markdown.

    encoders: the section model.encoders, as it was trained. requires, packages: of preprocessing.json.
    """
    data = [(*DATA_SETS.get(name, (name, "that of its files")), f"corpus `{name}`") for name in corpora]
    packages_table = [(name, str(find_licence(name)), version) for name, version in packages.items()]
    return "\n".join(
        [
            "# Licences\n",
            "The owner of the model chooses its licence. *To fill in.* It has to respect the licences below. This is"
            " not legal advice.\n",
            "## Data sets\n",
            *_tabulate(("data set", "licence", "used as"), data),
            "## Weights\n",
            "The folder contains no weights but those of the trained network. They started from random weights, or from the"
            " weights in the first rows. The other rows are files that a stream reads.\n",
            *_tabulate(("weights", "licence", "used by"), [*_list_initial(encoders), *_list_required(requires)]),
            "## Packages\n",
            "Each package has dependencies with further licences.\n",
            *_tabulate(("package", "licence in its metadata", "version in training"), packages_table),
        ]
    )


def find_licence(name: str) -> str | None:
    """Return the licence that an installed package's metadata states, or None if it isn't installed."""
    try:
        metadata = importlib.metadata.metadata(name)
    except importlib.metadata.PackageNotFoundError:
        return None
    if name in _CLASSIFIER_IS_WRONG:
        return _CLASSIFIER_IS_WRONG[name]
    if expressions := metadata.get_all("License-Expression"):
        return str(expressions[0])
    classifiers = [
        text.split(" :: ")[-1] for text in metadata.get_all("Classifier") or [] if text.startswith("License")
    ]
    short = str((metadata.get_all("License") or [""])[0]).strip()
    return short if short and "\n" not in short and len(short) < 60 else ", ".join(classifiers) or "states none"


def _list_initial(encoders: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield a row for each encoder that training started from pretrained weights."""
    for name, settings in encoders.items():
        if (weights := settings.get("weights")) in (None, "random"):
            continue
        network = settings.get("network", settings.get("backbone", ""))
        weight_set = WEIGHT_SETS.get(network)
        licence = f"{weight_set.licence}: {weight_set.allows}" if weight_set else _UNKNOWN
        if weights in ("imagenet", "kinetics"):
            licence = _TORCHVISION
        yield f"{network} ({weights})", licence, f"encoder `{name}`"


def _list_required(requires: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield a row for each file that a stream reads."""
    by_file = {weights.file_name: weights for weights in WEIGHT_SETS.values() if weights.file_name}
    for stream, files in requires.items():
        for file in files:
            weight_set = by_file.get(file["file"]) or WEIGHT_SETS.get(str(file["source"]))
            licence = f"{weight_set.licence}: {weight_set.allows}" if weight_set else _UNKNOWN
            if file["package"]:
                licence = f"{find_licence(file['package'])} (in the package {file['package']})"
            yield f"`{file['file']}`", licence, f"stream `{stream}`"


def _tabulate(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    if not rows:
        return ["None.\n"]
    return [
        f"| {' | '.join(titles)} |",
        "|" + "---|" * len(titles),
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
    ]
