"""What survives: a reload during training, the saved notebook, an untrusted page, another theme."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from cells import INTERRUPT, SETUP, training
from lab import Lab, Tab
from playwright.sync_api import Locator, expect

pytestmark = pytest.mark.browser
CURVE = ".maas path.maas-validation"


def points(tab: Tab) -> int:
    """Points of the longest curve on the page."""
    paths = tab.page.locator(".maas-line").evaluate_all("lines => lines.map(line => line.getAttribute('d'))")
    return max((len(re.findall("[ML]", path)) for path in paths), default=0)


def chip(tab: Tab) -> Locator:
    """State that the live view shows."""
    return tab.page.locator(".maas-chip")


def open_book(tab: Tab, lab: Lab, name: str, *cells: str) -> Path:
    """Open a notebook and prepare its kernel."""
    path = lab.write(name, [SETUP, *cells])
    tab.open(lab, name)
    tab.run(0, wait=True)
    return path


def reload(tab: Tab, lab: Lab, path: Path) -> int:
    """Save, leave the page and open it again; the points that it showed before."""
    tab.page.wait_for_selector(CURVE, timeout=15_000)
    tab.page.wait_for_timeout(1200)
    before = points(tab)
    tab.save(path)
    tab.page.goto("about:blank")
    tab.open(lab, path.name, wait=False)
    tab.page.wait_for_selector(CURVE, timeout=40_000)
    return before


def test_a_reload_during_training_brings_the_whole_view_back(lab: Lab, tab: Tab) -> None:
    path = open_book(tab, lab, "reload.ipynb", training(background=True))
    tab.run(1, wait=True)
    before = reload(tab, lab, path)
    assert points(tab) >= before > 2
    seq = tab.page.locator(".maas").get_attribute("data-seq") or ""
    expect(tab.page.locator(".maas")).not_to_have_attribute("data-seq", seq)
    tab.page.locator(".maas-stop").click()
    expect(chip(tab)).to_have_text("stopped")


def test_a_page_that_was_away_when_a_blocking_cell_ended_shows_its_end(lab: Lab, tab: Tab) -> None:
    # A new page asks the busy kernel who it is before anything else, and is answered when the cell is over.
    path = open_book(tab, lab, "away.ipynb", INTERRUPT + training())
    tab.run(1)
    before = reload(tab, lab, path)
    assert points(tab) >= before > 2
    expect(chip(tab)).to_have_text("stopped", timeout=30_000)
    expect(tab.page.locator(".maas-stop")).to_be_hidden()


def test_the_saved_notebook_has_the_twin_and_no_widget(lab: Lab, tab: Tab) -> None:
    path = open_book(tab, lab, "saved.ipynb", training(10), training(20, background=True), "print('other')")
    for index in (1, 2, 3):
        tab.run(index, wait=True)
    # The background job ends in the cell that began it, whatever ran since.
    tab.cell(2).locator("img:not([alt])").first.wait_for(timeout=120_000)  # the live view had a picture with words
    assert tab.cell(3).locator(".jp-OutputArea-output").count() == 1
    book = tab.save(path)
    assert "widget-view" not in nbformat.writes(book)
    for cell in book.cells[1:3]:
        chart, table = (output.data for output in cell.outputs if output.output_type == "display_data")
        assert set(chart) == {"image/png", "image/svg+xml", "text/plain"}
        assert "best epoch" in table["text/html"]
    # Under another name and unsigned, nothing in it is trusted.
    book.cells[1].source += " "
    nbformat.write(book, lab.root / "untrusted.ipynb")
    tab.open(lab, "untrusted.ipynb")
    for index in (1, 2):
        picture = tab.cell(index).locator("img").first
        picture.wait_for(timeout=5_000)
        assert picture.evaluate("image => image.naturalWidth") > 0
        assert tab.cell(index).locator("table").count() == 2
        assert "best epoch" in tab.cell(index).inner_text()


def brightness(css: str) -> float:
    """Mean of red, green and blue of a CSS colour, from 0 to 1."""
    return sum(map(float, re.findall(r"[\d.]+", css)[:3])) / (1 if css.startswith("color") else 255) / 3


def look(tab: Tab) -> tuple[float, float]:
    """Brightness of the live view's ground and of its ink."""
    style = "e => [getComputedStyle(e).backgroundColor, getComputedStyle(e).color]"
    ground, ink = tab.page.locator(".maas").evaluate(style)
    return brightness(ground), brightness(ink)


def test_theme_width_and_keyboard(lab: Lab, tab: Tab) -> None:
    open_book(tab, lab, "theme.ipynb", training())
    tab.run(1)
    tab.page.wait_for_selector(CURVE, timeout=15_000)
    ground, ink = look(tab)
    assert ground < 0.3 < 0.7 < ink
    tab.page.evaluate("() => jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Light'})")
    tab.page.wait_for_function("() => document.body.dataset.jpThemeLight === 'true'")
    tab.page.wait_for_timeout(300)
    ground, ink = look(tab)
    assert ink < 0.3 < 0.7 < ground
    view, bar = tab.page.locator(".maas"), tab.page.get_by_role("progressbar", name="progress")
    for width in (1000, 640):
        tab.page.set_viewport_size({"width": width, "height": 900})
        tab.page.wait_for_timeout(400)
        assert view.evaluate("e => e.scrollWidth <= e.clientWidth")
    assert view.get_attribute("aria-label") == "train digits"
    assert 0 <= int(bar.get_attribute("aria-valuenow") or -1) <= 100
    chart = tab.page.locator(".maas svg").first
    chart.focus()
    tab.page.keyboard.press("ArrowLeft")
    expect(chart).to_have_attribute("aria-label", re.compile("loss, epoch"))
    tab.page.locator(".maas-stop").click()
    tab.wait_done(1, timeout=6)
