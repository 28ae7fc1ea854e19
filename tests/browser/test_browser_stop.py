"""A blocking cell in a real JupyterLab: the live view moves, and Stop and ■ end it."""

from __future__ import annotations

import re

import pytest
from cells import SETUP, training
from lab import Lab, Tab
from playwright.sync_api import Locator, expect

pytestmark = [
    pytest.mark.browser,
    pytest.mark.parametrize("lab", ["", "7.3"], indirect=True, ids=["current", "7.3"], scope="module"),
]

# As with a kernel that hears nothing during a cell: what the page says is thrown away on its way in.
DEAF = "from maas_magics.widgets.live import LiveWidget\nLiveWidget._receive = lambda *args: None"
CELLS = [SETUP, training(), "print(ipykernel.__version__)", training(), DEAF, training()]
CELLS += [training(background=True), "import time; time.sleep(2.5); print('slept')", "import os; os._exit(1)"]


@pytest.fixture(scope="module")
def book(lab: Lab, tab: Tab) -> Tab:
    """The page with the notebook of all cells, prepared to train."""
    lab.write("stop.ipynb", CELLS)
    tab.open(lab, "stop.ipynb")
    tab.run(0, wait=True)
    return tab


def start(book: Tab, index: int) -> Locator:
    """Run a cell and wait until its live view has a curve; the view."""
    view = book.run(index).locator(".maas")
    view.locator(".maas-line").first.wait_for(timeout=15_000)
    return view


def twin(book: Tab, index: int) -> str:
    """Text of a cell that is over, once its chart is there."""
    cell = book.cell(index)
    cell.locator("img").wait_for(timeout=5_000)
    expect(cell.locator(".maas")).to_have_count(0)
    return cell.inner_text()


def test_stop_ends_a_blocking_cell_normally(book: Tab) -> None:
    view = start(book, 1)
    first = int(view.get_attribute("data-seq") or 0)
    book.page.wait_for_timeout(1000)
    assert int(view.get_attribute("data-seq") or 0) > first
    assert re.search(r"epoch \d+/100000.*samples/s", view.locator(".maas-figures").inner_text(), re.S)
    view.locator(".maas-stop").click()
    # Takes about a second, half of it the first drawing of a chart; a busy machine needs three.
    book.wait_done(1, timeout=5)
    text = twin(book, 1)
    assert "stopped" in text
    assert "TrainedModel digits:1" in text
    assert "KeyboardInterrupt" not in text


def test_the_version_is_the_one_that_was_asked_for(book: Tab, request: pytest.FixtureRequest) -> None:
    version = book.run(2, wait=True).locator(".jp-OutputArea-output").inner_text()
    assert version.startswith("7.3.") == ("7.3" in request.node.name)


def test_the_interrupt_button_stops_and_still_raises(book: Tab) -> None:
    start(book, 3)
    book.page.locator('[data-jp-item-name="interrupt"]').first.click()
    book.wait_done(3, timeout=5)
    text = twin(book, 3)
    assert "KeyboardInterrupt" in text
    assert "stopped" in text


def test_a_click_that_nobody_hears_interrupts_the_kernel(book: Tab) -> None:
    book.run(4, wait=True)
    view = start(book, 5)
    view.locator(".maas-stop").click()
    expect(view.locator(".maas-chip")).to_have_text("stopping…")
    book.wait_done(5, timeout=5)
    assert "stopped" in twin(book, 5)


def test_a_click_on_a_background_job_interrupts_no_other_cell(book: Tab) -> None:
    view = start(book, 6)
    cell = book.run(7)
    view.locator(".maas-stop").click()
    book.wait_done(7, timeout=6)
    assert "slept" in cell.inner_text()
    assert "KeyboardInterrupt" not in cell.inner_text()


def test_a_dead_kernel_disables_the_button(book: Tab) -> None:
    view = book.cell(6).locator(".maas")
    book.run(8)
    expect(view.locator(".maas-chip")).to_have_text("kernel gone", timeout=15_000)
    assert view.locator(".maas-stop").is_disabled()
