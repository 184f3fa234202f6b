"""The draft paper: it describes the run, includes the figures and compiles. Figures fit the columns of a journal."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from lib.report import citations, figures, latex, page, paper
from lib.report.figures._base import make_panels
from lib.report.figures._paper import COLUMNS
from lib.report.latex import escape
from lib.report.methods import describe_methods
from lib.report.methods_inputs import find_references, find_streams
from lib.streams import base
from tests.conftest import ROOT
from tests.report_data import DATA, FIVE_TRAITS, TRAINING_SUMMARY, WARMTH, score_model
from tools import parameters as written

TARGETS = {"warmth": WARMTH, "five_traits": FIVE_TRAITS}
PROVENANCE = {"commit": "0123456789abcdef+", "versions": {"torch": "2.11.0"}, **TRAINING_SUMMARY}
FINDINGS = {"warmth": ["On 60 clips 1 − MAE / 6, 0.9 [−0.1, 1.0], R² & 50 % of_it."], "five_traits": ["None."]}


NO_GROUPS = pd.DataFrame({"targets": []})
FILES = sorted(path.stem for path in (ROOT / "params").glob("*.yaml"))


def make_run(parameters: dict[str, Any], commit: str | None = PROVENANCE["commit"], *sources: str) -> page.PipelineRun:
    data = DATA | {"sources": list(sources)} if sources else DATA
    return page.PipelineRun(PROVENANCE | {"commit": commit, "weights": 1_234_567}, data, "test", parameters, parameters)


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


def marks(parameters: Any) -> dict[str, str]:
    """Words that describe each stream in the paper, with the names of its networks."""
    networks = {name: escape(parameters[name]["network"]) for name in ("embeddings", "scenes", "speech", "text")}
    return {
        "frames": "Frames were sampled", "faces": "detected the speaker's face", "landmarks": "Landmarks are",
        "pictures": "images of each clip", "flow": "optical flow", "audio": "MFCC, in windows",
        "waveform": "read as samples",
        "embeddings": f"frozen network {networks['embeddings']}", "scenes": f"frozen network {networks['scenes']}",
        "speech": f"hidden states of the frozen network {networks['speech']}", "text": "Transcripts were represented",
        "sound_descriptors": "Audio was summarised", "features": "Feature vectors were read",
        "behaviour": "the tracked person",
        "voice": "pYIN", "descriptors": "hand-crafted vector",
    }  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_methods_name_only_the_streams_of_the_model(name: str) -> None:
    parameters = written.plain(written.merge_parameters(name, []))
    text = describe_methods(make_run(parameters), {"warmth": WARMTH}, score_model(WARMTH, 0.1)[1])
    references = find_references(parameters["model"])
    needed = {stream for ref in references for stream in base.list_with_inputs(ref.partition(".")[0], parameters)}
    assert find_streams(parameters, references) == needed
    described = marks(parameters)
    assert described.keys() == set(base.list_names())
    shared = {mark for stream, mark in described.items() if stream in needed}
    for stream, mark in described.items():
        assert (mark in text) == (stream in needed or mark in shared), stream
    uses_words = {"text.transformer", "text.words"} & {*references}
    if parameters["text"]["network"] not in {
        parameters[other]["network"] for other in needed & {"embeddings", "scenes"}
    }:
        assert (escape(parameters["text"]["network"]) in text) == bool(uses_words)
    assert ("MTCNN" in text) == ("faces" in needed)
    assert ("corrupted faces" in text) == ("faces" in needed and parameters["analyse"]["robustness_clips"] > 0)
    if not needed & {"frames", "faces", "pictures"}:
        assert "mirroring" not in text


def test_methods_name_the_chosen_detectors_and_networks() -> None:
    changes = [
        "model.use=[s2d, speech, text]", "faces.detector=yunet", "faces.identity=sface", "landmarks.enabled=true",
        "landmarks.detector=dlib", "model.encoders.s2d.reads=[faces, landmarks]", "model.encoders.s2d.landmarks=points",
        "speech.enabled=true", "speech.network=facebook/hubert-base-ls960", "speech.rate=null", "text.enabled=true",
        "text.kinds=[words]", "text.network=google-bert/bert_base", "model.encoders.text.reads=[text.words]",
    ]  # fmt: skip
    text = describe_methods(make_run(written.merge_parameters("demo", changes)), TARGETS, score_model(WARMTH, 0.1)[1])
    assert r"YuNet \cite{wu2023} detected the speaker's face, and the last network of MTCNN" in text
    assert r"embeddings of SFace \cite{zhong2021} recognised" in text
    assert r"dlib's 68 points \cite{king2009}" in text
    assert "the frozen network facebook/hubert-base-ls960." in text
    assert r"hidden states of the frozen network google-bert/bert\_base for each word" in text
    assert "WavLM" not in text
    assert "wavlm" not in text


def test_methods_list_the_active_augmentation() -> None:
    changes = {"rotation": 10.0, "erasing": 0.25, "mixup": 0.8, "cutmix": 1.0, "word_dropout": 0.1, "noise": 0.2}
    settings = [f"train.augment.{key}={value}" for key, value in changes.items()]
    text = describe_methods(make_run(written.merge_parameters("demo", settings)), TARGETS, score_model(WARMTH, 0.1)[1])
    for words in (
        "rotations of up to 10 degrees", r"random erasing \cite{zhong2020} in 25 \% of the clips",
        r"mixup \cite{zhang2018} with $\alpha=0.8$", r"CutMix \cite{yun2019} with $\alpha=1$", "noise with 0.2 times",
    ):  # fmt: skip
        assert words in text
    assert "of the words" not in text  # no text is read
    assert "masks" not in text


def test_limitations_and_ethics_follow_the_data_sheet() -> None:
    def write(groups: pd.DataFrame, *sources: str) -> str:
        run = make_run(written.merge_parameters("demo", []), None, *sources)
        return paper.make_paper([], FINDINGS, run, TARGETS, score_model(WARMTH, 0.1)[1], groups)

    text = write(NO_GROUPS, "fiv2")
    assert "videos of the test split, 20 have training clips" in text
    assert "fiv2: People who speak to a camera in YouTube videos, in English." in text
    assert "it behaves as emotional stability" in text
    assert "errors were not measured by group" in text
    assert "rendered, so the scores" not in text
    own = write(pd.DataFrame({"group": ["a"]}), "table")
    assert "table: To fill in: the people in the clips, how they gave consent" in own
    assert "Errors were measured by group" in own
    assert "YouTube" not in own.partition(r"\section{Limitations}")[2].partition("thebibliography")[0]
    demo = write(NO_GROUPS, "demo")
    assert "The clips are rendered" in demo


def test_bibtex_has_every_cited_work() -> None:
    text = paper.make_paper(
        [], FINDINGS, make_run(written.merge_parameters("demo", [])), TARGETS, score_model(WARMTH, 0.1)[1], NO_GROUPS
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
        [paper.PaperFigure(name, True) for name in names],
        FINDINGS,
        run,
        TARGETS,
        score_model(WARMTH, 0.1)[1],
        NO_GROUPS,
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
    text = paper.make_paper(included, FINDINGS, run, TARGETS, score_model(WARMTH, 0.1)[1], NO_GROUPS)
    (tmp_path / "paper/paper.tex").write_text(text)
    for _ in range(2):
        result = subprocess.run(
            ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper"], cwd=tmp_path / "paper", check=False,
            capture_output=True, text=True, errors="replace",
        )  # fmt: skip
        assert result.returncode == 0, result.stdout[-3000:]
    assert (tmp_path / "paper/paper.pdf").read_bytes().startswith(b"%PDF")
    assert not re.search("undefined|Missing character", result.stdout)
