"""Every file and folder below data/, metrics/, plots/ and docs/ that a stage writes or reads, each named once."""

from pathlib import Path

PARAMETERS = Path("params.yaml")
STAGES = Path("dvc.yaml")
SHIPPED_PARAMETERS = Path("params/demo.yaml")
"""The parameters as the project ships them: reports list what a run changes."""

# download
DATA = Path("data")


def find_archives(folder: Path) -> Path:
    """Return data/archives/ for a command that runs in `folder`.

    DVC runs `dvc exp run --queue` and `--temp` in copies of the project below .dvc/tmp/exps/. A copy reads the project's
    archives, because git does not track them.
    """
    for depth, parent in enumerate(folder.parents, 1):
        if parent.parts[-3:] == (".dvc", "tmp", "exps"):
            return Path(*[".."] * (depth + 3), DATA, "archives")
    return DATA / "archives"


ARCHIVES = find_archives(Path.cwd())
ARCHIVE_LIST = DATA / "archives.csv"
WEIGHTS = DATA / "weights"
RAW = DATA / "raw"
CLIPS = DATA / "clips.csv"
GROUPS = DATA / "groups.csv"
CUES = DATA / "cues.csv"
METRICS = Path("metrics")
DATA_METRICS = METRICS / "data.json"
DOWNLOAD_METRICS = METRICS / "download.json"

COST = Path("logs/cost.jsonl")
"""A line for each run of a stage; not an output, because DVC must not watch it."""

# train
MODEL = DATA / "model.pt"
PLOTS = Path("plots")
HISTORY = PLOTS / "history.csv"
TRAIN_METRICS = METRICS / "train.json"

# evaluate
PREDICTIONS = DATA / "predictions.csv"
SCORES = DATA / "scores.csv"
COMPARISONS = DATA / "comparisons.csv"
GROUP_SCORES = DATA / "group_scores.csv"
SPLIT_SCORES = DATA / "split_scores.csv"
LOST = DATA / "lost.csv"
CORPUS_SCORES = DATA / "corpus_scores.csv"
SAME_PERSON = DATA / "same_person.csv"
OUTLIERS = DATA / "outliers.csv"
PROVENANCE = DATA / "provenance.json"
HEADLINE = METRICS / "scores.json"
LENGTHS = METRICS / "lengths.json"

# analyse
ATTENTION = DATA / "attention.h5"
MEAN_ATTENTION = DATA / "mean_attention.h5"
CONTROLS = DATA / "controls.csv"
IMPORTANCE = DATA / "importance.h5"
DELETION = DATA / "deletion.csv"
ROBUSTNESS = DATA / "robustness.csv"
PROBES = DATA / "probes.csv"
LENS = DATA / "lens.csv"
CUE_SCORES = DATA / "cue_scores.csv"
FEATURE_IMPORTANCE = DATA / "feature_importance.csv"
PARTIAL_DEPENDENCE = DATA / "partial_dependence.csv"
LAYER_WEIGHTS = DATA / "layer_weights.csv"
EMBEDDING_MAP = DATA / "map.csv"
AUGMENTED = DATA / "augmented.h5"
SAMPLES = DATA / "samples.h5"

# figures
PNG_FIGURES = PLOTS / "figures"
PDF_FIGURES = PLOTS / "pdf"
CAPTIONS = PLOTS / "captions.tex"
LATEX_TABLES = PLOTS / "tables"
PAPER_FOLDER = PLOTS / "paper"
PAPER = PAPER_FOLDER / "paper.tex"
REPORT = PLOTS / "report.html"
DOCS = Path("docs")
MODEL_CARD = DOCS / "model_card.md"
DATA_SHEET = DOCS / "data_sheet.md"
CROISSANT = DATA / "croissant.json"

OUTPUTS: dict[str, tuple[Path, ...]] = {
    "download": (RAW, CLIPS, GROUPS, CUES, DATA_METRICS, DOWNLOAD_METRICS),
    "train": (MODEL, HISTORY, TRAIN_METRICS),
    "evaluate": (
        PREDICTIONS, SCORES, COMPARISONS, GROUP_SCORES, SPLIT_SCORES, CORPUS_SCORES, LOST, OUTLIERS, SAME_PERSON, PROVENANCE,
        HEADLINE, LENGTHS,
    ),
    "analyse": (
        ATTENTION, MEAN_ATTENTION, CONTROLS, IMPORTANCE, DELETION, ROBUSTNESS, PROBES, LENS,
        FEATURE_IMPORTANCE, PARTIAL_DEPENDENCE, CUE_SCORES, LAYER_WEIGHTS, AUGMENTED, EMBEDDING_MAP, SAMPLES,
    ),
    "figures": (
        PNG_FIGURES, PDF_FIGURES, CAPTIONS, LATEX_TABLES, PAPER_FOLDER, REPORT, MODEL_CARD, DATA_SHEET, CROISSANT,
    ),
}  # fmt: skip
"""Outputs and metrics of each stage in dvc.yaml; a stream's are `stream_outputs`."""

TEXT_COLUMNS: dict[Path, tuple[str, ...]] = {
    HISTORY: (),
    PREDICTIONS: ("clip", "video", "corpus", "split", "targets", "target"),
    SCORES: ("targets", "subset", "predictor", "score", "target"),
    COMPARISONS: ("targets", "subset", "predictor", "target"),
    GROUP_SCORES: ("targets", "kind", "predictor", "what", "group", "score", "target"),
    SPLIT_SCORES: ("targets", "split", "score", "target"),
    CORPUS_SCORES: ("targets", "corpus", "predictor", "fit", "score", "target"),
    LOST: ("step", "reason", "split"),
    SAME_PERSON: ("clip", "video", "split", "other_clip", "other_video", "other_split"),
    OUTLIERS: ("kind", "name", "column", "clip", "split"),
    CONTROLS: ("targets", "control", "target"),
    DELETION: ("targets", "order", "target"),
    ROBUSTNESS: ("targets", "corruption", "target"),
    PROBES: ("targets", "features", "target"),
    FEATURE_IMPORTANCE: ("targets", "control", "target"),
    PARTIAL_DEPENDENCE: ("targets", "model", "feature", "kind", "towards", "target"),
    CUES: ("clip", "target"),
    CUE_SCORES: ("targets", "stream", "kind", "score", "map", "target"),
    LENS: ("targets", "feature", "kind", "side", "target"),
    LAYER_WEIGHTS: ("encoder", "stream"),
    EMBEDDING_MAP: ("features", "clip", "video", "split"),
}
"""The columns of each table that are text, whatever their cells look like."""


def stream_folder(name: str) -> Path:
    """Return the folder of a stream's shards."""
    return DATA / name


def stream_metrics(name: str) -> Path:
    """Return the file with a stream's counts."""
    return METRICS / f"{name}.json"


def stream_outputs(name: str) -> tuple[Path, ...]:
    """Return the outputs and metrics of a stream's stage."""
    return stream_folder(name), stream_metrics(name)
