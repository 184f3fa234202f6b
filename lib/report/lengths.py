"""A table of the clips' lengths for the report and the data sheet."""

from collections.abc import Iterator, Mapping

from lib.core.clips import SPLITS

COLUMNS = {
    "clips": "clips", "mean": "mean", "min": "lowest", "q05": "5 %", "q25": "25 %", "median": "median", "q75": "75 %",
    "q95": "95 %", "max": "highest",
}  # fmt: skip
"""Keys of metrics/lengths.json, and their titles."""
NOTE = (
    "Number of steps of each stream in the usable clips of each split: frames, faces and flow fields that are present,"
    " audio steps, words. Percentages are quantiles."
)


def list_lengths(lengths: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Iterator[list[str]]:
    """Yield the rows of the table: stream, split and the values of COLUMNS. lengths: contents of metrics/lengths.json."""
    for stream, by_split in lengths.items():
        for split in SPLITS:
            if split in by_split:
                yield [stream, split, *(f"{by_split[split][key]:g}" for key in COLUMNS)]


def tabulate_lengths(lengths: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """Return the table as Markdown, or a sentence if no stream has steps."""
    rows = list(list_lengths(lengths))
    if not rows:
        return "No stream of the model has more than one step in a clip."
    header = ["stream", "split", *COLUMNS.values()]
    return "\n".join([NOTE + "\n", *(f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows))])
