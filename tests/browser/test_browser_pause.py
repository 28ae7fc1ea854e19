"""Pause and Resume in a real JupyterLab: a cell ends with the job, and its view goes on when the job does."""

from __future__ import annotations

import os

import pytest
from cells import SETUP, training
from lab import Lab, Tab
from playwright.sync_api import expect

pytestmark = [
    pytest.mark.browser,
    pytest.mark.parametrize("lab", ["", "7.3"], indirect=True, ids=["current", "7.3"], scope="module"),
]

CELLS = [
    SETUP,
    "job = " + training(),
    "job",
    "import maas_magics; maas_magics.train('other', digits, 'target', epochs=1).ref",
]


def test_a_cell_is_paused_and_its_view_goes_on(lab: Lab, tab: Tab) -> None:
    lab.write("pause.ipynb", CELLS)
    tab.open(lab, "pause.ipynb")
    tab.run(0, wait=True)
    view = tab.run(1).locator(".maas")
    view.locator(".maas-line").first.wait_for(timeout=15_000)
    expect(view.locator(".maas-hold")).to_have_text("Pause")
    view.locator(".maas-hold").click()
    tab.wait_done(1, timeout=10)
    expect(view.locator(".maas-chip")).to_have_text("paused")
    expect(view.locator(".maas-hold")).to_have_text("Resume")
    if folder := os.environ.get("MAAS_SHOTS"):
        view.screenshot(path=f"{folder}/paused.png")
    assert "· paused" in tab.run(2, wait=True).inner_text()
    assert "'other:" in tab.run(3, wait=True).inner_text()  # others may train meanwhile
    seq = int(view.get_attribute("data-seq") or 0)
    view.locator(".maas-hold").click()
    expect(view.locator(".maas-chip")).to_have_text("running", timeout=10_000)
    expect(view.locator(".maas-hold")).to_have_text("Pause")
    tab.page.wait_for_timeout(2000)
    assert int(view.get_attribute("data-seq") or 0) > seq
    if folder := os.environ.get("MAAS_SHOTS"):
        view.screenshot(path=f"{folder}/resumed.png")
    view.locator(".maas-stop").click()
    cell = tab.cell(1)
    cell.locator("img").wait_for(timeout=10_000)
    assert "stopped" in cell.inner_text() and "KeyboardInterrupt" not in cell.inner_text()
