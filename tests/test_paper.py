"""The draft paper: it describes the run, includes the figures and compiles. Figures fit the columns of a journal."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from lib.report import citations, figures, latex, page, paper
from lib.report.figures._base import COLUMNS, make_panels
from lib.report.methods import describe_methods
from tests.report_data import DATA, FIVE_TRAITS, TRAINING_SUMMARY, WARMTH, score_model
from tools import parameters as written

TARGETS = {"warmth": WARMTH, "five_traits": FIVE_TRAITS}
PROVENANCE = {"commit": "0123456789abcdef+", "versions": {"torch": "2.11.0"}, **TRAINING_SUMMARY}
FINDINGS = {"warmth": ["On 60 clips 1 − MAE / 6, 0.9 [−0.1, 1.0], R² & 50 % of_it."], "five_traits": ["None."]}


def make_run(parameters: dict[str, Any], commit: str | None = PROVENANCE["commit"], *sources: str) -> page.Run:
    data = DATA | {"sources": list(sources)} if sources else DATA
    return page.Run(PROVENANCE | {"commit": commit, "weights": 1_234_567}, data, "test", parameters, parameters)


def test_methods_describe_the_run() -> None:
    text = describe_methods(
        make_run(written.merge_parameters("demo", ["model.use=[faces,flow]"])), TARGETS, score_model(WARMTH, 0.1)[1]
    )
    assert "100 of 110 annotated clips (0.5 hours).\nThe split is official: 30 training clips of 20 videos" in text
    assert r"template of five points (64 $\times$ 64 pixels)" in text
    assert r"a primal-dual scheme \cite{chambolle2011} ($\lambda=0.15$, $\theta=0.1$, 7 scales, 3 warps" in text
    assert "width 96.\nCross-attention \\cite{vaswani2017} has 4 heads and 1 block" in text
    assert "The network has 1.23 million parameters." in text
    assert "takes one step from each of 4 equal parts" in text
    assert "mse for warmth, mse for five\\_traits" in text
    assert "learning rate of 0.001" in text
    assert "shifts of up to 3 pixels" in text
    assert "training mean (the mean of the training labels; uses no input)" in text
    assert "2000 permutations" in text
    assert "2 hypotheses on means over targets and 4 hypotheses on single targets" in text
    assert "Trained at commit 0123456789ab, with changed files, on a processor, 2 cores; torch 2.11.0." in text
    assert "MFCC" not in text


def test_methods_of_audio_alone_mention_no_faces() -> None:
    run = make_run(written.merge_parameters("demo", ["model.use=[audio]"]), None)
    text = describe_methods(run, {"warmth": WARMTH}, score_model(WARMTH, 0.1)[1])
    assert "Audio (16000 Hz) was represented by 64 log-mel bands and 24 MFCC, in windows of 25 ms every 10 ms" in text
    assert not re.search("MTCNN|flow|vaswani|Frames|mirroring", text)
    assert "Trained without git" in text


def test_bibtex_has_every_cited_work() -> None:
    text = paper.make_paper(
        [], FINDINGS, make_run(written.merge_parameters("demo", [])), TARGETS, score_model(WARMTH, 0.1)[1]
    )
    keys = {key for group in re.findall(r"\\cite\{([^}]+)\}", text) for key in group.split(",")}
    works = citations.find_cited(text)
    assert works.keys() == keys
    assert {"vaswani2017", "ponce2016"} <= keys
    entries = re.findall(r"^@\w+\{(\w+),\n  author = \{.+\},\n  title", citations.format_bibtex(works), re.MULTILINE)
    assert {*entries} == keys
    assert all(rf"\bibitem{{{key}}}" in text for key in keys)


def test_body_has_at_most_eight_cited_figures() -> None:
    names = [f"{group}/{name}" for group in TARGETS for name in figures.FIGURES]
    run = make_run(written.merge_parameters("demo", []))
    text = paper.make_paper(
        [paper.PaperFigure(name, True) for name in names], FINDINGS, run, TARGETS, score_model(WARMTH, 0.1)[1]
    )
    body, appendix = text.split(r"\appendix")
    assert body.count(r"\includegraphics") == paper.BODY
    assert body.count(r"\includegraphics") + appendix.count(r"\includegraphics") == len(names)
    for name in re.findall(r"\\label\{fig:([^}]+)\}", body):
        assert rf"Figure~\ref{{fig:{name}}}" in body
    assert body.index(r"\label{fig:warmth/headline}") < body.index(r"\label{fig:warmth/controls}")


def test_figures_fit_one_or_two_columns_with_legible_text() -> None:
    wide, panels = make_panels(FIVE_TRAITS)
    for axes in panels.values():
        axes.set_title("a title", fontsize=12)
        axes.set_xlabel("a label", fontsize=4)
    narrow = Figure(figsize=(4.6, 2))
    assert (figures.fit_to_paper(wide), figures.fit_to_paper(narrow)) == (True, False)
    assert (wide.get_size_inches()[0], narrow.get_size_inches()[0]) == (COLUMNS[1], COLUMNS[0])
    sizes = [text.get_fontsize() for text in wide.findobj(Text)]
    assert (min(sizes), max(sizes)) == pytest.approx((7, 7.2))


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex is installed")
def test_paper_compiles(tmp_path: Path) -> None:
    included = []
    for name, wide in (("clips_used", False), ("warmth/headline", True)):
        file = tmp_path / "pdf" / f"{name}.pdf"
        file.parent.mkdir(parents=True, exist_ok=True)
        Figure(figsize=(2, 1)).savefig(file)
        included.append(paper.PaperFigure(name, wide))
    (tmp_path / "captions.tex").write_text(
        latex.format_captions({figure.name: "Of 95 % & a_b, 1 − R²." for figure in included})
    )
    (tmp_path / "tables").mkdir()
    for name, group in TARGETS.items():
        for suffix, tabulate in (("", latex.tabulate_headline), ("_targets", latex.tabulate_targets)):
            table = tabulate(score_model(group, 0.1)[0], group, "test", f"tab:{name}{suffix}")
            (tmp_path / "tables" / f"{name}{suffix}.tex").write_text(table)
    (tmp_path / "paper").mkdir()
    run = make_run(written.merge_parameters("demo", []), None, "fiv2", "my_own")
    text = paper.make_paper(included, FINDINGS, run, TARGETS, score_model(WARMTH, 0.1)[1])
    (tmp_path / "paper/paper.tex").write_text(text)
    for _ in range(2):
        result = subprocess.run(
            ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper"], cwd=tmp_path / "paper", check=False,
            capture_output=True, text=True, errors="replace",
        )  # fmt: skip
        assert result.returncode == 0, result.stdout[-3000:]
    assert (tmp_path / "paper/paper.pdf").read_bytes().startswith(b"%PDF")
    assert not re.search("undefined|Missing character", result.stdout)
