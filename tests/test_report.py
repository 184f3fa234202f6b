"""What is drawn and written of target groups: their own names and ranges, no unknown target, attention of any encoders."""

from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from lib.core.targets import TRAITS, TargetGroup
from lib.report import card, figures, page
from lib.scoring import tables

WARMTH = TargetGroup(columns=["warm", "cold"], range=[1, 7], activation="linear", loss="mse", weight=1)
FIVE = TargetGroup(columns=list(TRAITS), range=[0, 1], activation="sigmoid", loss="mse", weight=1)
MODEL = {
    "use": ["look", "voice"],
    "fusion": "concat",
    "encoders": {
        "look": {"kind": "images", "reads": ["faces"], "backbone": "resnet10", "weights": None},
        "voice": {"kind": "vectors", "reads": ["audio"]},
        "unused": {"kind": "volumes", "reads": ["flow"]},
    },
}


def scored(name: str, group: TargetGroup) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Predictions, scores and groups' scores of 60 clips of 30 videos; one target of the first clip is unknown."""
    rng, count = np.random.default_rng(0), len(group.columns)
    test = pd.DataFrame({"clip": [f"c{index:02d}" for index in range(60)], "video": np.repeat(np.arange(30), 2)})
    actual = rng.uniform(*group.range, (60, count))
    actual[0, 0] = np.nan
    predicted, seen = rng.uniform(*group.range, (60, count)), np.arange(60) >= 20
    predicted[1, 1] = group.range[1] + 0.5
    given = {"model": predicted, "mean_predictor": np.full((60, count), np.mean(group.range))}
    about = group.columns, group.span, 100, 0
    persons = pd.DataFrame({"gender": np.tile(["female", "male"], 30)})
    rows = test.loc[test.index.repeat(count)].assign(split="test", seen=np.repeat(seen, count), targets=name)
    rows = rows.assign(target=group.columns * 60, actual=actual.ravel(), predicted=predicted.ravel())
    scores = tables.score_table(actual, given, test, seen, *about).assign(targets=name)
    return rows, scores, tables.group_table(actual, given, test, persons, *about).assign(targets=name)


def data(*sources: str) -> dict[str, object]:
    counts = {"training": 100, "validation": 20, "test": 60}
    return {"sources": list(sources), "split": "random", "clips": counts, "videos_shared_with_training": {"test": 20}}


def test_a_card_and_a_page_speak_of_the_groups_they_are_about(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"x")
    drawn = {"": {"Learning curve": tmp_path / "x.png"}, "warmth": {}, "traits": {}}
    _, scores, persons = scored("warmth", WARMTH)
    texts = [
        card.card(scores, persons, {"warmth": WARMTH}, "test", data("table"), MODEL),
        page.page(scores, persons, {"warmth": WARMTH}, drawn, "test", ["table"]),
    ]
    for text in texts:
        assert "1 − MAE / 6" in text
        assert "female less the others" in text
        assert not any(word in text.lower() for word in ("trait", "neuroticism", "personality", "planted"))
    assert "Fusion `concat` of 2 encoders: look (images of faces; `resnet10`, from scratch), voice" in texts[0]
    assert "warmth: warm, cold (unbounded, where the labels are 1 to 7)" in texts[0]
    assert "The labels of the corpus `table` are as its files give them" in texts[0]
    both = {"warmth": WARMTH, "traits": FIVE}
    _, of_five, persons_of_five = scored("traits", FIVE)
    arguments = pd.concat([scores, of_five]), pd.concat([persons, persons_of_five])
    written = card.card(*arguments, both, "test", data("fiv2", "demo"), MODEL)
    shown = page.page(*arguments, both, drawn, "test", ["fiv2", "demo"])
    for text in (written, shown):
        assert text.count("behaves as emotional stability") == 1
        assert "planted" in text
    assert (
        written.index("### warmth")
        < written.index("1 − MAE / 6")
        < written.index("### traits")
        < written.index("(1 − MAE)")
    )
    assert shown.index("<h1>Warmth</h1>") < shown.index("<h1>Traits</h1>")
    nobody = tables.group_table(np.zeros((1, 2)), {"mean_predictor": np.zeros((1, 2))}, pd.DataFrame({"video": ["a"]}),
                                pd.DataFrame(index=[0]), WARMTH.columns, 6, 100, 0).assign(targets="warmth")  # fmt: skip
    assert "were not measured" in card.card(scores, nobody, {"warmth": WARMTH}, "test", data("demo"), MODEL)


def test_panels_have_the_range_and_leave_out_what_is_unknown() -> None:
    rows, scores, _ = scored("warmth", WARMTH)
    figure = figures.predicted_against_actual(rows, WARMTH)
    warm, cold = figure.axes
    assert warm.get_title() == "warm\n(59 of 60 known)"
    assert cold.get_title() == "cold"
    assert warm.get_xlim() == cold.get_ylim() == (1, 7.5)  # all that is predicted, though beyond the range
    assert [len(dots.get_offsets()) for dots in (*warm.collections, *cold.collections)] == [40, 19, 40, 20]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "video seen in training (40)",
        "video unseen in training (20)",
    ]
    line = figures.quantiles(rows, scores, WARMTH).axes[0].lines[0]
    known = rows[rows["target"] == "warm"].dropna()
    assert line.get_ydata()[49] == pytest.approx(known["predicted"].median())
    assert np.isfinite(line.get_xydata()).all()
    assert figures.error_distribution(rows, WARMTH).axes[0].get_ylabel() == "predicted − actual (range 1 to 7)"
    nine = TargetGroup(columns=list("abcdefghi"), range=[0, 1], activation="sigmoid", loss="mse", weight=1)
    wide = figures.predicted_against_actual(scored("nine", nine)[0], nine)
    assert [axes.get_title()[0] for axes in wide.axes if axes.get_visible()] == list("abcdefghi")


def test_attention_of_any_encoders_is_drawn_where_they_look(tmp_path: Path) -> None:
    shapes = {"look": (2, (3, 2)), "move": (4, (2, 2)), "voice": (5, (1, 1))}
    tokens = {name: times * height * width for name, (times, (height, width)) in shapes.items()}
    pictures = np.full((2, 8, 8, 3), 100, np.uint8)
    with h5py.File(tmp_path / "attention.h5", "w") as file:
        group = file.create_group("clip")
        for name, (times, grid) in shapes.items():
            group[f"tokens/{name}/times"], group[f"tokens/{name}/grid"] = np.arange(times) / 2, np.array(grid)
        for query, key in (("look", "voice"), ("voice", "look"), ("voice", "move"), ("look", "move")):
            weights = np.full((2, tokens[query], tokens[key]), 1.0)
            if query == "voice":  # looks twice as much at the last token, last in time and place
                weights[..., -1] = 2
            group[f"attention/{query}_to_{key}"] = weights / weights.sum(-1, keepdims=True)
        group["pictures/look"] = pictures
        found = figures.read_attention(file)
        del group["pictures"]
        without = figures.read_attention(file)
    over_time = figures.attention_over_time(found)
    labels = {axes.get_ylabel().split("\n")[0]: axes for axes in over_time.axes}
    assert set(labels) == {"attention to look", "attention to move", "attention to voice"}
    assert over_time.axes[0].get_title() == "clip"
    lines = {line.get_label(): line.get_ydata() for line in labels["attention to move"].lines}
    assert lines["tokens of look"] == pytest.approx([25] * 4)
    assert lines["tokens of voice"] == pytest.approx([100 * 4 / 17] * 3 + [100 * 5 / 17])
    on_face = figures.attention_on_face(found)
    assert [axes.get_title() for axes in on_face.axes[:3]] == ["look at 0.0 s", "look at 0.5 s", "move, all times"]
    shown = [np.asarray(axes.images[-1].get_array()) for axes in on_face.axes[:3]]
    assert shown[1] == pytest.approx(12 / 13 * np.array([[1, 1], [1, 1], [1, 2]]))
    of_voice = 16 / 17 * np.array([[1, 1], [1, 1.25]])  # at four times, at the last twice
    assert shown[2] == pytest.approx((of_voice + 1) / 2)
    assert np.array_equal(on_face.axes[2].images[0].get_array(), np.full((8, 8), 100))
    assert len(figures.attention_on_face(without).axes[0].images) == 1
    for drawn in (figures.attention_over_time({}), figures.attention_on_face({})):
        assert "o attention" in drawn.axes[0].texts[0].get_text()
