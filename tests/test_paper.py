"""The paper to begin from: it says what was run, includes what is drawn, and compiles; figures fit a journal."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from lib.report import figures, latex, paper
from lib.report.figures._base import COLUMNS, panels_of
from tests.test_page import DATA, judged
from tests.test_report import FIVE, TRAINED, WARMTH
from tools import parameters as written

TARGETS = {"warmth": WARMTH, "five_traits": FIVE}
PROVENANCE = {"commit": "0123456789abcdef+", "versions": {"torch": "2.11.0"}, **TRAINED}
FOUND = {"warmth": ["On 60 clips 1 − MAE / 6, 0.9 [−0.1, 1.0], R² & 50 % of_it."], "five_traits": ["None."]}


def test_methods_are_of_what_was_run() -> None:
    parameters = written.merged("demo", [])
    said = paper.methods(parameters, DATA, PROVENANCE, TARGETS)
    assert "100 of 110 annotated clips (0.5 hours), split official: 30 training clips of 20 videos" in said
    assert "brought to a template of five points (64 pixels a side)" in said
    assert r"a primal-dual scheme \cite{chambolle2011} ($\lambda=0.15$, $\theta=0.1$, 7 scales, 3 warps" in said
    assert "4 heads and depth 1" in said
    assert "mse for warmth, mse for five\\_traits" in said
    assert "learning rate of 0.001" in said
    assert "Trained at commit 0123456789ab, with changed files, on a processor, 2 cores; torch 2.11.0." in said
    assert "MFCC" not in said
    heard = paper.methods(
        written.merged("demo", ["model.use=[audio]"]), DATA, PROVENANCE | {"commit": None}, {"warmth": WARMTH}
    )
    assert "Sound (16000 Hz) was read as 64 log-mel bands and 24 MFCC in windows of 25 ms every 10 ms" in heard
    assert not re.search("MTCNN|flow|vaswani|Frames", heard)
    assert "Trained without git" in heard


def test_a_figure_takes_one_column_or_two_with_legible_text() -> None:
    wide, panels = panels_of(FIVE)
    for axes in panels.values():
        axes.set_title("a title", fontsize=12)
        axes.set_xlabel("a label", fontsize=4)
    narrow = Figure(figsize=(4.6, 2))
    assert (figures.for_paper(wide), figures.for_paper(narrow)) == (True, False)
    assert (wide.get_size_inches()[0], narrow.get_size_inches()[0]) == (COLUMNS[1], COLUMNS[0])
    sizes = [text.get_fontsize() for text in wide.findobj(Text)]
    assert (min(sizes), max(sizes)) == pytest.approx((7, 7.2))


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex is installed")
def test_it_compiles(tmp_path: Path) -> None:
    included = []
    for name, wide in (("clips_used", False), ("warmth/headline", True)):
        file = tmp_path / "pdf" / f"{name}.pdf"
        file.parent.mkdir(parents=True, exist_ok=True)
        Figure(figsize=(2, 1)).savefig(file)
        included.append(paper.Included(name, wide))
    (tmp_path / "captions.tex").write_text(latex.captions({one.name: "Of 95 % & a_b, 1 − R²." for one in included}))
    (tmp_path / "tables").mkdir()
    for name, group in TARGETS.items():
        (tmp_path / "tables" / f"{name}.tex").write_text(latex.headline(judged(group, 0.1)[0], group, "test"))
    (tmp_path / "paper").mkdir()
    text = paper.paper(
        included, FOUND, written.merged("demo", []), DATA | {"sources": ["fiv2", "my_own"]}, PROVENANCE, TARGETS
    )
    (tmp_path / "paper/paper.tex").write_text(text)
    for _ in range(2):
        done = subprocess.run(
            ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper"], cwd=tmp_path / "paper", check=False,
            capture_output=True, text=True, errors="replace",
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-3000:]
    assert (tmp_path / "paper/paper.pdf").read_bytes().startswith(b"%PDF")
    assert not re.search("undefined|Missing character", done.stdout)
