"""What survives: a reload during training, the saved notebook, an untrusted page, the dark theme."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from cells import SETUP, training
from lab import Lab, Tab, open_tab

pytestmark = pytest.mark.browser


def points(tab: Tab) -> int:
    """Points of the longest curve on the page."""
    paths = tab.page.locator(".maas-line").evaluate_all("lines => lines.map(line => line.getAttribute('d'))")
    return max((len(re.findall("[ML]", path)) for path in paths), default=0)


def test_a_reload_during_training_brings_the_whole_view_back(lab: Lab, tab: Tab) -> None:
    path = lab.write("reload.ipynb", [SETUP, training(500)])
    tab.open(lab, "reload.ipynb")
    tab.run(0, wait=True)
    tab.run(1)
    tab.page.wait_for_selector(".maas", timeout=10_000)
    tab.page.wait_for_timeout(2500)
    before = points(tab)
    tab.save(path)
    tab.page.goto("about:blank")
    tab.open(lab, "reload.ipynb", wait=False)
    tab.page.wait_for_selector(".maas .maas-line", timeout=10_000)
    assert points(tab) >= before > 50
    seq = tab.page.locator(".maas").get_attribute("data-seq")
    tab.page.wait_for_function("seq => document.querySelector('.maas').dataset.seq !== seq", arg=seq, timeout=5_000)
    tab.page.locator(".maas-stop").click()
    tab.page.wait_for_function("() => document.querySelector('.maas-chip').textContent === 'stopped'", timeout=6_000)


def test_the_saved_notebook_has_the_twin_and_no_widget(lab: Lab, tab: Tab, tmp_path: Path) -> None:
    path = lab.write("saved.ipynb", [SETUP, training(4, more=", warn='3 rows dropped'"), "watch(predict())"])
    tab.open(lab, "saved.ipynb")
    for index in range(3):
        tab.run(index, wait=True)
    tab.page.wait_for_timeout(300)
    book = tab.save(path)
    text = nbformat.writes(book)
    assert "widget-view" not in text
    chart, table = book.cells[1].outputs
    assert set(chart.data) == {"image/png", "image/svg+xml", "text/plain"} and "3 rows dropped" in table.data["text/html"]
    assert "10,000 rows" in book.cells[2].outputs[0].data["text/html"]
    # Another page of the same server has not run these cells, so it trusts none of them.
    for cell in book.cells:
        cell.metadata.pop("trusted", None)
    nbformat.write(book, lab.root / "untrusted.ipynb")
    tab.open(lab, "untrusted.ipynb")
    cell = tab.cell(1)
    picture = cell.locator("img").first
    picture.wait_for(timeout=5_000)
    assert picture.evaluate("image => image.naturalWidth") > 0 and cell.locator("table").count() == 2
    assert "3 rows dropped" in cell.inner_text()


def test_a_background_job_ends_in_its_own_cell(lab: Lab, tab: Tab) -> None:
    lab.write("background.ipynb", [SETUP, "watch(train(epochs=4), block=False)", "print('other')"])
    tab.open(lab, "background.ipynb")
    tab.run(0, wait=True)
    tab.run(1, wait=True)
    tab.page.wait_for_selector(".maas", timeout=10_000)
    tab.run(2, wait=True)
    tab.cell(1).locator("img").wait_for(timeout=10_000)
    assert tab.cell(2).locator(".jp-OutputArea-output").count() == 1


@pytest.mark.parametrize("lab", ["dark"], indirect=True)
def test_the_theme_changes_under_a_running_view(lab: Lab) -> None:
    def brightness(css: str) -> float:
        return sum(map(float, re.findall(r"[\d.]+", css)[:3])) / (1 if css.startswith("color") else 255) / 3

    def look(tab: Tab) -> tuple[float, float]:
        style = "e => [getComputedStyle(e).backgroundColor, getComputedStyle(e).color]"
        back, ink = tab.page.locator(".maas").evaluate(style)
        return brightness(back), brightness(ink)

    lab.write("theme.ipynb", [SETUP, training(500)])
    with open_tab(width=520) as tab:
        tab.open(lab, "theme.ipynb")
        tab.run(0, wait=True)
        tab.run(1)
        tab.page.wait_for_selector(".maas .maas-line", timeout=10_000)
        back, ink = look(tab)
        assert back < 0.3 < 0.7 < ink
        tab.page.evaluate("() => jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Light'})")
        tab.page.wait_for_function("() => document.body.dataset.jpThemeLight === 'true'")
        tab.page.wait_for_timeout(300)
        back, ink = look(tab)
        assert ink < 0.3 < 0.7 < back
        view, bar = tab.page.locator(".maas"), tab.page.get_by_role("progressbar", name="progress")
        assert view.evaluate("e => e.scrollWidth <= e.clientWidth") and view.get_attribute("aria-label") == "train penguins"
        assert 0 <= int(bar.get_attribute("aria-valuenow") or -1) <= 100
        chart = tab.page.locator(".maas svg").first
        chart.focus()
        tab.page.keyboard.press("ArrowLeft")
        assert "loss, epoch" in (chart.get_attribute("aria-label") or "")
        tab.page.locator(".maas-stop").click()
        tab.wait_done(1, timeout=6)
