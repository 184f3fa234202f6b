"""The page of `dvc plots show`: its template, .dvc/plots.html, shows plots in the order of the report."""

import json
import re
from pathlib import Path

from playwright.sync_api import Browser

from lib.report.figures import FIGURES
from tests.conftest import ROOT

TEMPLATE = ROOT / ".dvc/plots.html"


def test_order_of_plots_is_that_of_the_report() -> None:
    (order,) = re.findall(r"const ORDER = (\[.*\]);", TEMPLATE.read_text())
    assert json.loads(order) == list(FIGURES)


def test_plots_are_sorted_and_unknown_ones_come_last(tmp_path: Path, browser: Browser) -> None:
    ids = [
        "learning_curve",
        "plots_figures_attention_matrix_png",
        "plots_figures_own_thing_png",
        "plots_figures_traits_predicted_against_actual_png",
        "plots_figures_traits_headline_png",
    ]
    divs = "\n".join(f'<div id = "{plot}"></div>' for plot in ids)
    (tmp_path / "index.html").write_text(TEMPLATE.read_text().replace("{refresh_tag}", "").replace("{plot_divs}", divs))
    page = browser.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto((tmp_path / "index.html").as_uri())
    plots_shown = page.evaluate("[...document.querySelectorAll('body > div')].map(div => div.id)")
    assert plots_shown == [ids[4], ids[0], ids[3], ids[1], ids[2]]
    assert not errors
