"""A blocking cell in a real JupyterLab: the live view moves, and Stop and ■ end it."""

from __future__ import annotations

import time

import pytest
from cells import SETUP, training
from lab import Lab, Tab

pytestmark = pytest.mark.browser


def both_kernels(*, name: str = "lab") -> pytest.MarkDecorator:
    return pytest.mark.parametrize(name, ["", "7.3"], indirect=True, ids=["current", "7.3"], scope="module")


def start(tab: Tab, lab: Lab, name: str, *cells: str) -> None:
    """Open a notebook, prepare its kernel, and run its second cell."""
    lab.write(name, [SETUP, *cells])
    tab.open(lab, name)
    tab.run(0, wait=True)
    tab.run(1)
    tab.page.wait_for_selector(".maas", timeout=10_000)


def sequence(tab: Tab) -> int:
    """Number of the last event that the page shows."""
    return int(tab.page.locator(".maas").first.get_attribute("data-seq") or 0)


def has_number(tab: Tab, index: int) -> bool:
    return "[*]" not in tab.cell(index).locator(".jp-InputPrompt").inner_text()


@both_kernels()
def test_stop_ends_a_blocking_cell_normally(lab: Lab, tab: Tab) -> None:
    start(tab, lab, "stop.ipynb", training(500), "print(ipykernel.__version__, 'next')")
    first = sequence(tab)
    tab.page.wait_for_timeout(1200)
    assert sequence(tab) > first and not has_number(tab, 1)
    assert tab.page.locator(".maas .maas-panel").count() >= 1
    button = tab.page.locator(".maas-stop")
    begin = time.monotonic()
    button.click()
    tab.wait_done(1, timeout=5)
    # Half a second of it is the first drawing of the chart.
    assert time.monotonic() - begin < 3.5
    cell = tab.cell(1)
    cell.locator("img").wait_for(timeout=5_000)
    assert "stopped" in cell.inner_text() and "KeyboardInterrupt" not in cell.inner_text()
    assert tab.page.locator(".maas").count() == 0
    tab.run(2, wait=True)
    assert "next" in tab.cell(2).inner_text()


@both_kernels()
def test_the_interrupt_button_stops_and_still_raises(lab: Lab, tab: Tab) -> None:
    start(tab, lab, "interrupt.ipynb", training(500))
    tab.page.wait_for_timeout(600)
    tab.page.locator('[data-command="notebook:interrupt-kernel"], [data-jp-item-name="interrupt"]').first.click()
    tab.wait_done(1, timeout=5)
    cell = tab.cell(1)
    cell.locator("img").wait_for(timeout=5_000)
    assert "KeyboardInterrupt" in cell.inner_text() and "stopped" in cell.inner_text()


def test_a_click_that_nobody_hears_interrupts_the_kernel(lab: Lab, tab: Tab) -> None:
    # As with a kernel that hears nothing during a cell: the answer to the click is thrown away on its way in.
    deaf = "from maas_magics.widgets import live; live.LiveWidget._receive = lambda *args: None\n"
    start(tab, lab, "deaf.ipynb", deaf + training(500))
    tab.page.locator(".maas-stop").click()
    tab.page.wait_for_timeout(200)
    assert "stopping" in tab.page.locator(".maas-chip").inner_text()
    tab.wait_done(1, timeout=6)
    assert "stopped" in tab.cell(1).inner_text()


def test_a_click_on_a_dead_kernel_is_harmless(lab: Lab, tab: Tab) -> None:
    start(tab, lab, "dead.ipynb", "watch(train(epochs=500), block=False)", "import os; os._exit(1)")
    tab.wait_done(1)
    # Its life is not waited for: nothing may throw in between either.
    tab.run(2)
    chip = tab.page.locator(".maas-chip")
    tab.page.wait_for_function("() => document.querySelector('.maas-chip')?.textContent === 'kernel gone'", timeout=15_000)
    assert chip.inner_text() == "kernel gone" and tab.page.locator(".maas-stop").is_disabled()
