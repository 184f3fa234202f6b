"""How much accuracy the model loses when a stream is another clip's, its steps are in another order, or nothing moves."""

from matplotlib.figure import Figure

from lib.core.targets import TargetGroup
from lib.report.figures._base import Results, forest, nothing
from lib.report.words import accuracy

SECTION, ORDER = "needs", 150
CAPTION = (
    "What the model needs: how much accuracy it loses on the same clips when a stream is another clip's (permutation"
    " importance, Breiman 2001), when a stream's steps are in another order, and when there is no motion; with 95 %"
    " intervals over videos. At zero the prediction does without. Flow of zero is like nothing in training, so that it can"
    " move a prediction that motion has nothing to do with: hold it against another clip's."
)


def draw(results: Results, group: TargetGroup) -> Figure:
    if results.controls.empty:
        return nothing("not measured: analyse.control_clips is 0")
    table = results.controls[results.controls["loss"].notna()]
    repeats = table["repeats"].max()
    label = f"loss of {accuracy(group)}, {table['clips'].iloc[0]} clips"
    return forest(table, "control", "loss", group, label + (f", mean of {repeats} draws" if repeats > 1 else ""))
