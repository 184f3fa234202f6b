"""Report texts and figures of target groups: names, ranges, missing labels, and attention of any encoders."""

import re
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lib.core.clips import SYNTHETIC
from lib.core.targets import TRAITS, TargetGroup, Targets
from lib.report import card, datasheet, figures, latex, methods, page, verdict, words
from lib.report.figures import FigureInputs, read
from lib.scoring import tables
from lib.scoring.baselines import LEAKING
from lib.scoring.bootstrap import Bootstrap
from tests.conftest import ROOT
from tests.report_data import FIVE_TRAITS, TRAINING_SUMMARY, WARMTH

CORRUPTIONS = pd.DataFrame(
    {"corruption": ["light (%)", "blur"], "strength": [12.0, 8.0], "loss": [0.1234, 0.05]}
).assign(targets="warmth", target="mean")
NO_OUTLIERS = pd.DataFrame(columns=["kind", "name", "column", "clip", "split", "value", "deviations"])
MODEL = {
    "use": ["look", "voice"],
    "fusion": "concat",
    "encoders": {
        "look": {"kind": "images", "reads": ["faces"], "backbone": "resnet10", "weights": None},
        "voice": {"kind": "vectors", "reads": ["audio"]},
        "unused": {"kind": "volumes", "reads": ["flow"]},
    },
}


def make_results(name: str, group: TargetGroup) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Predictions, scores and subgroup scores of 60 clips of 30 videos. One label of the first clip is missing."""
    rng, count = np.random.default_rng(0), len(group.columns)
    test = pd.DataFrame({"clip": [f"c{index:02d}" for index in range(60)], "video": np.repeat(np.arange(30), 2)})
    actual = rng.uniform(*group.range, (60, count))
    actual[0, 0] = np.nan
    predicted, is_seen = rng.uniform(*group.range, (60, count)), np.arange(60) >= 20
    predicted[1, 1] = group.range[1] + 0.5
    mean = np.full((60, count), np.mean(group.range))
    predictions_of_models = {"model": predicted, "mean_predictor": mean, "video_lookup": mean}
    scored_clips = tables.ScoredClips(
        actual, predictions_of_models, test["video"].to_numpy(), is_seen, group, Bootstrap(100, 0)
    )
    persons = pd.DataFrame({"gender": np.tile(["female", "male"], 30)})
    rows = test.loc[test.index.repeat(count)].assign(
        split="test", video_in_training=np.repeat(is_seen, count), targets=name
    )
    rows = rows.assign(target=group.columns * 60, actual=actual.ravel(), predicted=predicted.ravel())
    scores = tables.score_table(scored_clips).assign(targets=name)
    return rows, scores, tables.group_table(scored_clips, persons).assign(targets=name)


def make_data(*sources: str) -> dict[str, object]:
    counts = {"training": 100, "validation": 20, "test": 60}
    shared = {"videos": counts, "videos_shared_with_training": {"test": 20}, "hours": 0.1}
    return {"sources": list(sources), "split": "random", "clips": counts} | shared


def make_run(*sources: str) -> page.PipelineRun:
    parameters = {"model": MODEL, "train": {"seed": 0}}
    return page.PipelineRun(
        {"commit": None, "versions": {}, **TRAINING_SUMMARY}, make_data(*sources), "test", parameters, parameters
    )


def compare(scores: pd.DataFrame) -> pd.DataFrame:
    accuracy = scores[scores["score"] == "accuracy"]
    return accuracy.rename(columns={"value": "difference"}).assign(p=0.01, p_holm=0.02, p_floor=0.001)


def write_page(scores: pd.DataFrame, persons: pd.DataFrame, targets: Targets, *sources: str) -> str:
    columns = [column for group in targets.values() for column in group.columns]
    clips = pd.DataFrame({"split": ["test"]} | {column: [0.5] for column in columns})
    return page.render_report(scores, compare(scores), persons, clips, targets, [], make_run(*sources), 150)


def write_card(
    scores: pd.DataFrame,
    persons: pd.DataFrame,
    targets: Targets,
    *sources: str,
    corruptions: pd.DataFrame = CORRUPTIONS,
) -> str:
    return card.make_card(scores, compare(scores), persons, corruptions, targets, make_run(*sources))


def test_card_and_page_use_the_names_of_the_targets() -> None:
    _, scores, persons = make_results("warmth", WARMTH)
    texts = [write(scores, persons, {"warmth": WARMTH}, "table") for write in (write_card, write_page)]
    for text in texts:
        assert "1 − MAE / 6" in text
        assert "female minus the others" in text
        words = ("trait", "neuroticism", "planted", "shrunk_video_lookup", "mean_predictor")
        assert not any(word in text.lower().replace("apparent-personality", "") for word in words)
    assert (
        "2 encoders, fused by `concat`: look (kind `images`, reads faces, network `resnet10`, trained from scr"
        in texts[0]
    )
    assert "warmth: warm, cold (unbounded; labels are 1 to 7)" in texts[0]
    assert "The labels of the corpus `table` are those of its files. *To fill in" in texts[0]
    assert "Licence: *to fill in" in texts[0]


def test_card_and_page_contain_both_target_groups() -> None:
    targets = {"warmth": WARMTH, "traits": FIVE_TRAITS}
    (_, warmth_scores, persons), (_, trait_scores, trait_persons) = (
        make_results("warmth", WARMTH),
        make_results("traits", FIVE_TRAITS),
    )
    arguments = pd.concat([warmth_scores, trait_scores]), pd.concat([persons, trait_persons]), targets, "fiv2", "demo"
    card_text, page_text = write_card(*arguments), write_page(*arguments)
    for text in (card_text, page_text):
        assert text.count("behaves as emotional stability") == 1
        assert "planted" in text
    assert card_text.index("Warmth: test split") < card_text.index("Traits: test split")
    assert card_text.index("Accuracy is 1 − MAE / 6.") < card_text.index("Accuracy is 1 − MAE.")
    assert page_text.index("<h2>Warmth</h2>") < page_text.index("<h2>Traits</h2>")


def test_page_has_tables_of_marked_evidence() -> None:
    _, scores, persons = make_results("warmth", WARMTH)
    marks = {"targets": "warmth", "stream": "faces", "kind": "place", "score": "energy", "target": "warm", "clips": 9}
    rows = [{**marks, "map": name, "value": 0.5, "low": 0.4, "high": 0.6} for name in ("occlusion", "shuffled")]
    run = make_run("table")._replace(cues=pd.DataFrame(rows))
    clips = pd.DataFrame({"split": ["test"], "warm": [0.5], "cold": [0.5]})
    arguments = scores, compare(scores), persons, clips, {"warmth": WARMTH}, []
    text = page.render_report(*arguments, run=run, dpi=150)
    assert "Marks of people, faces, place: marked part of the importance" in text
    assert "warm (9 clips)" in text
    assert text.count("[0.400, 0.600]") == 2
    assert "Marks of people" not in write_page(scores, persons, {"warmth": WARMTH}, "table")


def test_card_without_groups_says_so() -> None:
    _, scores, persons = make_results("warmth", WARMTH)
    assert "were not measured by group" in write_card(scores, persons[:0], {"warmth": WARMTH}, "demo")


def test_small_subgroups_are_listed_in_one_line() -> None:
    _, scores, _ = make_results("warmth", WARMTH)
    test = pd.DataFrame({"video": np.repeat(np.arange(30), 2)})
    actual = np.random.default_rng(0).uniform(1, 7, (60, 2))
    predictions_of_models = {"model": actual + 0.1, "mean_predictor": np.full((60, 2), 4.0)}
    age = pd.DataFrame({"age": np.where(test["video"] < 5, "child", np.where(test["video"] < 20, "adult", "senior"))})
    scored_clips = tables.ScoredClips(
        actual, predictions_of_models, test["video"].to_numpy(), np.ones(60, bool), WARMTH, Bootstrap(100, 0)
    )
    groups = tables.group_table(scored_clips, age).assign(targets="warmth")
    for write in (write_card, write_page):
        text = write(scores, groups, {"warmth": WARMTH}, "table")
        assert text.count("fewer than 10 videos: child (10 clips, 5 videos).") == 1
        assert "adult (30 clips, 15 videos)" in text
        assert "child minus the others" not in text
    text = write_card(scores, groups[groups["group"] == "child"], {"warmth": WARMTH}, "table")
    assert "| age |" not in text[text.index("## Subgroups") :]


def test_card_lists_limits_in_numbers() -> None:
    _, scores, persons = make_results("warmth", WARMTH)
    text = write_card(scores, persons, {"warmth": WARMTH}, "table")
    limits = text[text.index("## Limits") : text.index("## Subgroups")]
    means = scores[scores["target"] == "mean"].set_index(["subset", "predictor", "score"])["value"].sort_index()
    mae, of_mean = means["all", "model", "mae"], means["all", "mean_predictor", "mae"]
    assert f"Mean absolute error: {mae:.3f} (scale 1 to 7); the training mean's is {of_mean:.3f}." in limits
    assert "No better than a constant (R² not above 0): warm, cold." in limits  # random predictions
    accuracy = {name: means["all", name, "accuracy"] for name in ("model", "mean_predictor")}
    assert f"more accurate than the model ({accuracy['model']:.3f} in 1 − MAE / 6): " in limits
    assert f"training mean ({accuracy['mean_predictor']:.3f}, p = 0.02)" in limits
    seen_accuracy, unseen_accuracy = (means[subset, "model", "accuracy"] for subset in ("seen_videos", "unseen_videos"))
    assert f"is {seen_accuracy:.3f} on videos seen in training and {unseen_accuracy:.3f} on unseen videos" in limits
    assert "Largest loss under degradation: 0.123 in 1 − MAE / 6, for light at 12 %." in limits
    assert "degradation" not in write_card(scores, persons, {"warmth": WARMTH}, "table", corruptions=CORRUPTIONS[:0])


def test_card_table_has_every_target_with_interval() -> None:
    _, scores, persons = make_results("warmth", WARMTH)
    text = write_card(scores, persons, {"warmth": WARMTH}, "table")
    rows = scores[(scores["subset"] == "all") & (scores["predictor"] == "model") & (scores["score"] == "accuracy")]
    for row in rows.itertuples():
        assert f"| {row.target} | {row.value:.4f} [{row.low:.4f}, {row.high:.4f}] |" in text
    assert "| accuracy of training mean | accuracy of video look-up |" in text
    assert "60 of 60 clips" in text


def test_datasheet_counts_clips_and_labels() -> None:
    clips = pd.DataFrame(
        {"corpus": ["table"] * 4 + ["fiv2"] * 2, "video": list("aabbcd"), "reason": ["", "", "", "gone", "", ""]}
    )
    clips = clips.assign(duration=[2.0, 3, 4, 9, 15, 15], audio=[True, False, True, True, True, True])
    clips["warm"], clips["cold"] = [1.0, 2, np.nan, 7, 3, 4], 2.0
    counts = {"annotated": 5, "files": 4, "usable": 3, "rejected": {"too short": 1}}
    data = make_data("table", "fiv2") | {"corpora": {"table": counts, "fiv2": counts | {"rejected": {}}}}
    run = make_run("table")._replace(data=data)
    _, _, persons = make_results("warmth", WARMTH)
    text = datasheet.make_datasheet(clips, persons, NO_OUTLIERS, {"warmth": WARMTH}, run, ["frames", "faces"])
    assert "No stream of the model has more than one step" in text
    assert (
        "5 annotated clips, 4 files, 3 usable; rejected: too short: 1. The usable clips come from 2 videos, with"
        in text
    )
    assert "A clip lasts 2.0 to 4.0 s; all together last 0.00 hours. 67% have audio" in text
    assert "A clip lasts 15.0 s;" in text
    assert "| warm | 4 | 2.500 | 1.291 | 1.000 | 4.000 |" in text
    assert "| test | 60 | 60 | 20 |" in text
    assert "gender female: 30 clips of 30 videos; gender male: 30 clips of 30 videos" in text
    assert "Streams extracted from them: frames, faces." in text
    assert text.count("**Motivation.**") == 2
    assert "Amazon Mechanical Turk" in text
    assert "*To fill in: how the clips were recorded" in text
    assert "stability" not in text


def test_documents_name_the_scored_split_and_left_out_clips() -> None:
    _, scores, persons = make_results("traits", FIVE_TRAITS)
    run, targets = make_run("fiv2"), {"traits": FIVE_TRAITS}
    counts = {"annotated": 5, "files": 4, "usable": 0, "rejected": {}}
    data = run.data | {
        "origins": {"test": {"fiv2": {"validation": 60}}, "none": {"fiv2": {"test": 9}}},
        "left_out": {"clips": 9, "first": ["a", "b", "c"]},
        "corpora": {"fiv2": counts},
    }
    run = run._replace(data=data | {"usable": 180, "annotated": 180})
    clips = pd.DataFrame({"split": ["test"], "corpus": "fiv2", "reason": "gone"} | dict.fromkeys(TRAITS, 0.5))
    compared = compare(scores)
    texts = [
        card.make_card(scores, compared, persons, CORRUPTIONS, targets, run),
        page.render_report(scores, compared, persons, clips, targets, [], run, 150).replace("&#39;", "'"),
        datasheet.make_datasheet(clips, persons, NO_OUTLIERS, targets, run, []),
        "\n".join(methods._describe_data(run, targets)),
    ]
    for text in texts:
        assert "60 clips of fiv2's validation split." in text
        assert (
            "9 usable clips are in no split (9 clips of fiv2's test split; a, b, c, ...): no model is trained" in text
        )
    assert "Scored clips" in texts[1]
    assert "in no split" not in write_card(scores, persons, targets, "fiv2")


def test_figures_have_the_range_and_skip_missing_labels() -> None:
    rows, scores, _ = make_results("warmth", WARMTH)
    figure = figures.predicted_against_actual.draw(FigureInputs(predictions=rows), WARMTH)
    warm, cold = figure.axes
    assert warm.get_title() == "warm\n(59 of 60 known)"
    assert cold.get_title() == "cold"
    assert warm.get_xlim() == cold.get_ylim() == (1, 7.5)  # includes predictions outside the range
    assert [len(dots.get_offsets()) for dots in (*warm.collections, *cold.collections)] == [40, 19, 40, 20]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "video seen in training (40)",
        "unseen video (20)",
    ]
    line = figures.quantiles.draw(FigureInputs(predictions=rows, scores=scores), WARMTH).axes[0].lines[0]
    labelled = rows[rows["target"] == "warm"].dropna()
    assert line.get_ydata()[49] == pytest.approx(labelled["predicted"].median())
    assert np.isfinite(line.get_xydata()).all()
    differences = figures.residuals.draw(FigureInputs(predictions=rows), WARMTH).axes[0]
    errors = labelled["predicted"] - labelled["actual"]
    limits = [errors.mean(), errors.mean() - 1.96 * errors.std(), errors.mean() + 1.96 * errors.std()]
    assert [line.get_ydata()[0] for line in differences.lines] == pytest.approx(limits)
    assert [len(dots.get_offsets()) for dots in differences.collections] == [40, 19]
    assert (
        figures.error_distribution.draw(FigureInputs(predictions=rows), WARMTH).axes[0].get_ylabel()
        == "prediction − label (range 1 to 7)"
    )
    nine_columns = TargetGroup(columns=list("abcdefghi"), range=[0, 1], head="sigmoid", loss="mse", weight=1)
    figure_of_nine = figures.predicted_against_actual.draw(
        FigureInputs(predictions=make_results("nine", nine_columns)[0]), nine_columns
    )
    assert [axes.get_title()[0] for axes in figure_of_nine.axes if axes.get_visible()] == list("abcdefghi")


def test_target_distributions_count_the_clips_of_each_split() -> None:
    clips = pd.DataFrame({"clip": list("abcdefg"), "split": ["training"] * 4 + ["validation", "test", "test"]})
    clips["warm"] = [1, 1.2, 4, np.nan, 7, np.nan, np.nan]
    clips["cold"] = [np.nan] * 3 + [2, 2, np.nan, 6.99]
    figure = figures.target_distributions.draw(FigureInputs(clips=clips), WARMTH)
    warm, cold = figure.axes
    assert warm.get_xlim() == cold.get_xlim() == (1, 7)
    assert (warm.get_title(), cold.get_title()) == ("warm\n(4 of 6 known)", "cold\n(3 of 6 known)")
    percentages = [patch.get_data().values for patch in (*warm.patches, *cold.patches)]
    expected = np.zeros((6, 20))  # bins of 0.3
    expected[0, [0, 10]] = 200 / 3, 100 / 3
    expected[1, 19], expected[3, 3], expected[4, 3], expected[5, 19] = 100, 100, 100, 100
    assert np.array(percentages) == pytest.approx(expected)
    assert warm.patches[0].get_data().edges[[0, -1]].tolist() == [1, 7]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "training (4 clips)", "validation (1 clips)", "test (1 clips)",
    ]  # fmt: skip


def test_learning_curve_shows_loss_and_scores_of_all_groups() -> None:
    history = pd.DataFrame({"epoch": [1, 2, 3], "training_loss": [3.0, 2, 1], "validation_loss": [3.0, 1, 2]})
    for index, name in enumerate(("warmth", "traits")):
        history[f"training_accuracy_{name}"] = np.array([0.1, 0.2, 0.3]) + index
        history[f"validation_accuracy_{name}"] = np.array([0.4, 0.5, 0.4]) + index
        for score in ("accuracy", "r2", "ccc"):
            history[f"validation_{score}_{name}"] = np.array([0.4, 0.5, 0.4]) + index
            for number, column in enumerate((WARMTH if name == "warmth" else FIVE_TRAITS).columns):
                history[f"validation_{score}_{name}.{column}"] = np.array([0.1, 0.2, 0.3]) * number
    loss, accuracy, r2, ccc = figures.learning_curve.draw(
        FigureInputs(history=history, targets={"warmth": WARMTH, "traits": FIVE_TRAITS})
    ).axes
    accuracy_lines = {line.get_label(): list(line.get_ydata()) for line in accuracy.lines}
    assert accuracy_lines.keys() == {
        "warmth: training, during the epoch", "warmth: validation, after it",
        "traits: training, during the epoch", "traits: validation, after it", "best epoch: 2",
        *WARMTH.columns, *FIVE_TRAITS.columns,
    }  # fmt: skip
    for axes in (r2, ccc):
        lines = {line.get_label(): list(line.get_ydata()) for line in axes.lines}
        assert lines.keys() == {"warmth: mean", "traits: mean", "best epoch: 2", *WARMTH.columns, *FIVE_TRAITS.columns}
        assert lines["cold"] == [0.1, 0.2, 0.3]
    assert accuracy_lines["traits: validation, after it"] == [1.4, 1.5, 1.4]
    assert accuracy_lines["warmth: training, during the epoch"] == [0.1, 0.2, 0.3]
    assert [line.get_label() for line in loss.lines][-1] == "best epoch: 2"
    assert list(loss.lines[0].get_ydata()) == [3, 2, 1]
    assert accuracy.get_ylabel() == "1 − MAE / width of the range"
    assert (
        figures.learning_curve.draw(FigureInputs(history=history, targets={"warmth": WARMTH})).axes[1].get_ylabel()
        == "1 − MAE / 6"
    )


def test_scores_by_split_show_their_intervals() -> None:
    rows = [(split, score, target) for split in ("training", "test") for score in ("r2", "accuracy")
            for target in ("mean", "warm", "cold")]  # fmt: skip
    table = pd.DataFrame(rows, columns=["split", "score", "target"]).assign(value=np.arange(12) / 10)
    table = table.assign(low=table["value"] - 0.1, high=table["value"] + 0.2, clips=9, videos=5)
    table.loc[table["split"] == "test", ["low", "high"]] = np.nan
    r2, accuracy = figures.scores_by_split.draw(FigureInputs(split_scores=table), WARMTH).axes
    assert (r2.get_ylabel(), accuracy.get_ylabel()) == ("R²", "1 − MAE / 6")
    assert [text.get_text() for text in accuracy.get_xticklabels()] == ["mean", "warm", "cold"]
    for axes, first in ((r2, 0), (accuracy, 0.3)):
        training, test = axes.lines[:2]
        assert training.get_label() == "training (9 clips of 5 videos)"
        assert list(training.get_ydata()) == pytest.approx([first, first + 0.1, first + 0.2])
        assert list(test.get_ydata()) == pytest.approx([first + 0.6, first + 0.7, first + 0.8])
        assert axes.collections[0].get_segments()[1][:, 1] == pytest.approx([first, first + 0.3])
        assert not any(len(line) for line in axes.collections[1].get_segments())


def test_samples_figure_shows_the_available_streams(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (4, 6, 8, 3), np.uint8)
    mfcc = rng.normal(0, 1, (50, 5))
    mfcc[:, 0] = -500
    rows = make_results("warmth", WARMTH)[0]
    with h5py.File(tmp_path / "samples.h5", "w", track_order=True) as file:
        for clip in ("c07", "c05", "c03"):
            file[f"{clip}/pictures/faces/values"], file[f"{clip}/pictures/faces/times"] = images, np.arange(4) / 2
            file[f"{clip}/pictures/faces"].attrs["read"] = True
        file["c07/pictures/faces/points"] = np.tile([[1.0, 2.0], [5.0, 2.0]], (4, 1, 1))
        file["c07/sound/log_mel/values"] = np.linspace(-100, 0, 50 * 4).reshape(50, 4)
        file["c07/sound/log_mel/frequencies"] = np.array([300, 700, 1300, 4000])
        file["c07/sound/mfcc/values"] = mfcc
        for name in ("log_mel", "mfcc"):
            file[f"c07/sound/{name}/times"] = np.arange(50) / 100
            file[f"c07/sound/{name}"].attrs["read"] = name == "log_mel"
        read_back = read.read_samples(file)
    figure = figures.samples.draw(FigureInputs(samples=read_back, predictions=rows, targets={"warmth": WARMTH}))
    face, log_mel, mfcc_axes, labels = figure.axes[:4]
    errors = (rows["predicted"] - rows["actual"]).abs().groupby(rows["clip"]).mean()
    assert [axes.get_title("left") for axes in figure.axes[:12:4]] == [
        f"c07: lowest error, {errors['c07']:.3f}",
        f"c05: median error, {errors['c05']:.3f}",
        f"c03: highest error, {errors['c03']:.3f}",
    ]
    tiled = np.asarray(face.images[0].get_array())
    assert np.array_equal(tiled[6:, 8:], images[3])
    landmarks = [points.get_offsets().tolist() for points in face.collections]  # images of 8 x 6 pixels, two per row
    assert landmarks == [[[1 + x, 2 + y], [5 + x, 2 + y]] for y in (0, 6) for x in (0, 8)]
    assert face.get_xlabel() == "faces at\n0.0, 0.5,\n1.0, 1.5 s"
    assert np.array_equal(log_mel.images[0].get_array(), np.linspace(-100, 0, 200).reshape(50, 4).T)
    assert log_mel.images[0].get_clim() == (-80, 0)
    assert log_mel.images[0].get_extent()[:2] == pytest.approx([-0.005, 0.495])
    ticks = dict(zip([text.get_text() for text in log_mel.get_yticklabels()], log_mel.get_yticks(), strict=True))
    assert ticks == pytest.approx({"500": 0.5, "1000": 1.5, "2000": 2 + 700 / 2700, "4000": 3})
    assert (log_mel.get_ylabel(), log_mel.get_xlabel()) == ("frequency (Hz)", "time (s)")
    assert (mfcc_axes.get_ylabel(), mfcc_axes.get_xlabel()) == ("MFCC", "time (s)\n(not read by the model)")
    low, high = mfcc_axes.images[0].get_clim()
    assert -low == high < 5  # the first coefficient does not dominate the colours
    assert figure.axes[5].get_xlabel() == "no audio"
    rows_of_clip = rows[rows["clip"] == "c07"]
    assert list(labels.lines[0].get_xdata()) == rows_of_clip["actual"].tolist()
    assert list(labels.lines[1].get_xdata()) == rows_of_clip["predicted"].tolist()
    assert [text.get_text() for text in labels.get_yticklabels()] == ["warm", "cold"]
    empty_samples = {clip: read.Sample({}, {}, np.array([])) for clip in read_back}
    assert (
        "No images and no audio"
        in figures.samples.draw(FigureInputs(samples=empty_samples, predictions=rows, targets={"warmth": WARMTH}))
        .axes[0]
        .texts[0]
        .get_text()
    )


def test_attention_figures_show_where_encoders_attend(tmp_path: Path) -> None:
    shapes = {"look": (2, (3, 2)), "move": (4, (2, 2)), "voice": (5, (1, 1))}
    tokens = {name: times * height * width for name, (times, (height, width)) in shapes.items()}
    images = np.full((2, 8, 8, 3), 100, np.uint8)
    with h5py.File(tmp_path / "attention.h5", "w") as file:
        group = file.create_group("clip")
        for name, (times, grid) in shapes.items():
            group[f"tokens/{name}/times"], group[f"tokens/{name}/grid"] = np.arange(times) / 2, np.array(grid)
        for query, key in (("look", "voice"), ("voice", "look"), ("voice", "move"), ("look", "move")):
            weights = np.full((2, tokens[query], tokens[key]), 1.0)
            if query == "voice":  # attends twice as much to the last token, last in time and place
                weights[..., -1] = 2
            group[f"attention/{query}_to_{key}"] = weights / weights.sum(-1, keepdims=True)
        group["pictures/look"] = images
        read_back = read.read_attention(file)
        del group["pictures"]
        without_images = read.read_attention(file)
    over_time = figures.attention_over_time.draw(FigureInputs(attention=read_back))
    labels = {axes.get_ylabel().split("\n")[0]: axes for axes in over_time.axes}
    assert set(labels) == {"attention to look", "attention to move", "attention to voice"}
    assert over_time.axes[0].get_title() == "clip"
    (clip,) = read_back.values()
    one_time = clip._replace(times=clip.times | {"voice": clip.times["voice"][:1]})
    figure = figures.attention_over_time.draw(FigureInputs(attention={"clip": one_time}))
    assert not any("to voice" in axes.get_ylabel() for axes in figure.axes)  # its only token gets all attention
    lines = {line.get_label(): line.get_ydata() for line in labels["attention to move"].lines}
    assert lines["tokens of look"] == pytest.approx([25] * 4)
    assert lines["tokens of voice"] == pytest.approx([100 * 4 / 17] * 3 + [100 * 5 / 17])
    on_face = figures.attention_on_the_face.draw(FigureInputs(attention=read_back))
    assert [axes.get_title() for axes in on_face.axes[:3]] == ["look at 0.0 s", "look at 0.5 s", "move, all times"]
    maps = [np.asarray(axes.images[-1].get_array()) for axes in on_face.axes[:3]]
    assert maps[1] == pytest.approx(12 / 13 * np.array([[1, 1], [1, 1], [1, 2]]))
    voice_map = 16 / 17 * np.array([[1, 1], [1, 1.25]])  # the mean over four times, with double weight in the last
    assert maps[2] == pytest.approx((voice_map + 1) / 2)
    assert np.array_equal(on_face.axes[2].images[0].get_array(), np.full((8, 8), 100))
    assert len(figures.attention_on_the_face.draw(FigureInputs(attention=without_images)).axes[0].images) == 1
    for figure in (
        figures.attention_over_time.draw(FigureInputs()),
        figures.attention_on_the_face.draw(FigureInputs()),
    ):
        assert "o attention" in figure.axes[0].texts[0].get_text()


def test_headline_table_and_captions_are_valid_latex() -> None:
    _, scores, _ = make_results("warmth", WARMTH)
    text = latex.tabulate_headline(scores, WARMTH, "test")
    assert r"\toprule" in text
    assert r" & 1 $-$ MAE / 6 & R$^2$ & CCC & 1 $-$ MAE / 6, unseen videos & R$^2$, unseen videos" in text
    row = scores[(scores["predictor"] == "model") & (scores["target"] == "mean") & (scores["score"] == "accuracy")]
    (model,) = [line for line in text.splitlines() if line.startswith("model &")]
    assert [f"{value:.4f}" for value in row[row["subset"] != "seen_videos"]["value"]] == re.findall(
        r"0\.\d{4}(?= \[)", model
    )
    assert "60 clips of 30 videos; 20 clips of 10 videos, unseen videos" in text
    assert r"95 \% intervals" in text
    macros = latex.format_captions({name: module.CAPTION for name, module in figures.FIGURES.items()})
    lines = macros.splitlines()[2:]
    assert len(lines) == len(figures.FIGURES)
    for line in lines:
        assert re.fullmatch(r"\\expandafter\\def\\csname figurecaption:\w+\\endcsname\{[^{}]+\}", line)
        assert not re.search(r"(?<!\\)[%&#_]", line.split("endcsname", 1)[1])


def test_cautions_warn_of_hiring_and_of_emotions() -> None:
    (traits_caution,) = card.list_cautions(["fiv2"], {"traits": FIVE_TRAITS})
    assert "least of all in hiring" in traits_caution
    emotions = FIVE_TRAITS.model_copy(update={"columns": ["anger_present", "sadness_present"]})
    cautions = card.list_cautions(
        ["demo", "demo_emotions"], {"traits": FIVE_TRAITS, "emotions": emotions, "again": emotions}
    )
    assert cautions[0] == traits_caution
    assert len(cautions) == 2
    assert "do not tell what a person feels" in cautions[1]
    assert "Article 5(1)(f)" in cautions[1]


@pytest.mark.parametrize("source", SYNTHETIC)
def test_synthetic_corpora_are_called_planted(source: str) -> None:
    _, scores, persons = make_results("warmth", WARMTH)
    for write in (write_card, write_page):
        assert "planted" in write(scores, persons, {"warmth": WARMTH}, source)


def test_planted_causes_equal_the_data_readme() -> None:
    rows = re.findall(r"^\| (\w+) \| ([^|]+) \|", (ROOT / "data/README.md").read_text(), re.MULTILINE)
    causes = {name: cause for name, cause in rows if name in words.PLANTED}
    assert causes.keys() >= {*TRAITS, "happiness", "anger", "surprise"}
    for name, cause in causes.items():
        keys = [
            key for key in ("motion", "appearance", "order", "noise", "tint", "voice") if key in words.PLANTED[name]
        ]
        assert keys
        assert all(key in cause for key in keys), name


@pytest.mark.parametrize(
    ("low", "value", "result"), [(0.1, 0.3, "predicted"), (-0.1, 0.3, "uncertain"), (-0.5, -0.1, "not predicted")]
)
def test_result_of_a_target_follows_its_interval(low: float, value: float, result: str) -> None:
    _, scores, _ = make_results("warmth", WARMTH)
    is_warm = (scores["target"] == "warm") & (scores["predictor"] == "model") & (scores["score"] == "r2")
    scores.loc[is_warm, ["value", "low", "high"]] = value, low, 0.6
    target_result = verdict.find_results(scores, WARMTH, synthetic=False)[0]
    assert (target_result.target, target_result.result, target_result.cause) == ("warm", result, "")
    assert target_result.r2 == f"{value:.2f} [{low:.2f}, 0.60]".replace("-", "−")
    rows = scores[
        (scores["subset"] == "unseen_videos") & (scores["target"] == "warm") & (scores["score"] == "accuracy")
    ]
    accuracy = rows.set_index("predictor")["value"]
    assert target_result.baseline == f"{accuracy.drop(['model', *LEAKING], errors='ignore').max():.3f}"


def test_targets_are_judged_on_unseen_videos_if_there_are_any() -> None:
    _, scores, _ = make_results("warmth", WARMTH)
    is_r2 = (scores["target"] == "warm") & (scores["predictor"] == "model") & (scores["score"] == "r2")
    for subset, low in (("all", 0.1), ("unseen_videos", -0.1)):
        scores.loc[is_r2 & (scores["subset"] == subset), ["value", "low", "high"]] = 0.3, low, 0.6
    for rows, expected in (
        (scores, ("uncertain", "unseen videos")),
        (scores[scores["subset"] != "unseen_videos"], ("predicted", "all clips")),
        (scores[scores["subset"] != "seen_videos"], ("predicted", "all clips, all of unseen videos")),
    ):
        result = verdict.find_results(rows, WARMTH, synthetic=False)[0].result
        assert (result, verdict.select_judged(rows)[1]) == expected


def test_page_has_a_section_across_corpora_if_scored(tmp_path: Path) -> None:
    _, scores, persons = make_results("warmth", WARMTH)
    Image.new("RGB", (8, 8)).save(tmp_path / "across.png")
    figure = page.ReportFigure("warmth", "corpora", "Across corpora", "Scores on vlogs.", tmp_path / "across.png")
    clips, targets = pd.DataFrame({"split": ["test"], "warm": [0.5], "cold": [0.5]}), {"warmth": WARMTH}
    arguments = scores, compare(scores), persons, clips, targets
    html = page.render_report(*arguments, figures=[figure], run=make_run("table"), dpi=150)
    assert '<h2 id="corpora">Across corpora</h2>' in html
    assert "Scores on vlogs." in html
    assert "Across corpora" not in write_page(scores, persons, targets, "table")


def test_page_and_card_report_persons_in_two_splits() -> None:
    _, scores, persons = make_results("warmth", WARMTH)
    run = make_run("table")._replace(same_persons="4 pairs of clips show one person.")
    clips, targets = pd.DataFrame({"split": ["test"], "warm": [0.5], "cold": [0.5]}), {"warmth": WARMTH}
    html = page.render_report(scores, compare(scores), persons, clips, targets, [], run, 150)
    assert "<p>4 pairs of clips show one person.</p>" in html
    text = card.make_card(scores, compare(scores), persons, CORRUPTIONS, targets, run)
    assert "\n\n4 pairs of clips show one person.\n\n## Results" in text


def test_headline_shows_a_difference_where_scores_round_alike() -> None:
    _, scores, _ = make_results("warmth", WARMTH)
    means = (scores["target"] == "mean") & (scores["score"] == "accuracy") & (scores["subset"] == "all")
    scores.loc[means & (scores["predictor"] == "model"), "value"] = 0.91843
    scores.loc[means & (scores["predictor"] == "mean_predictor"), "value"] = 0.91801
    scores.loc[means & (scores["predictor"] == "video_lookup"), "value"] = 0.8
    compared = compare(scores)
    compared["difference"] = 0.00042
    text = " ".join(verdict.describe_headline(scores, compared, WARMTH))
    assert "the training mean (0.918, difference +0.0004, p = 0.02)" in text
    assert "the video look-up (0.800, p = 0.02)" in text


def test_p_at_the_floor_is_an_upper_bound_in_report_and_card() -> None:
    _, scores, persons = make_results("warmth", WARMTH)
    compared = compare(scores).assign(p=0.001)
    compared.loc[compared["predictor"] == "video_lookup", "p"] = 0.01
    text = " ".join(verdict.describe_headline(scores, compared, WARMTH))
    assert re.search(r"the training mean \(0\.\d{3}, p < 0\.02\)", text)
    assert re.search(r"the video look-up \(0\.\d{3}(, difference [+−]0\.\d{4})?, p = 0\.02\)", text)
    run = make_run("table")
    limits = card.make_card(scores, compared, persons, CORRUPTIONS, {"warmth": WARMTH}, run)
    assert re.search(r"training mean \(0\.\d{3}, p < 0\.02\)", limits[limits.index("## Limits") :])
