"""A page that comes back while a cell runs, and what any saved moment opens with."""

from __future__ import annotations

import re
from pathlib import Path

import nbconvert
import nbformat
import pytest
from cells import SETUP, training
from lab import Lab, Tab
from playwright.sync_api import expect

pytestmark = [
    pytest.mark.browser,
    pytest.mark.parametrize(
        "lab", ["", "7.3", "notebook"], indirect=True, ids=["current", "7.3", "Notebook"], scope="module"
    ),
]
WIDGET = "application/vnd.jupyter.widget-view+json"
STILL = "[class^=maas-still] img"
RESTART = "() => jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()"


def begin(tab: Tab, lab: Lab, name: str, cell: str, setup: str = SETUP) -> Path:
    """Open a notebook and run its training until there is a curve and a picture beside it."""
    path = lab.write(name, [setup, cell])
    tab.open(lab, name)
    tab.run(0, wait=True)
    tab.run(1)
    tab.page.locator(".maas path.maas-validation").first.wait_for(timeout=60_000)
    tab.page.wait_for_selector(STILL, state="attached", timeout=60_000)
    return path


def come_back(tab: Tab, lab: Lab, path: Path) -> None:
    """Save, leave the page, and open it again."""
    tab.save(path)
    tab.page.goto("about:blank")
    tab.open(lab, path.name, wait=False)


def outputs(path: Path) -> list[nbformat.NotebookNode]:
    """Outputs of the training's cell as they were saved."""
    return [output for output in nbformat.read(path, as_version=4).cells[1].outputs if "data" in output]


@pytest.mark.parametrize("where", ["kernel", "service"])
def test_card_and_stop_are_back_while_the_cell_runs(lab: Lab, tab: Tab, where: str) -> None:
    setup = SETUP + ("%connect local" if where == "service" else "")
    path = begin(tab, lab, f"back-{where}.ipynb", training(), setup)
    come_back(tab, lab, path)
    view = tab.page.locator(".maas")
    view.locator("path.maas-validation").first.wait_for(timeout=30_000)
    expect(view.locator(".maas-chip")).to_have_text("running")
    expect(tab.page.locator(STILL)).to_be_hidden()
    seq = view.get_attribute("data-seq") or ""
    expect(view).not_to_have_attribute("data-seq", seq, timeout=30_000)
    view.locator(".maas-stop").click()
    expect(view.locator(".maas-chip")).to_have_text("stopped", timeout=30_000)
    # What is saved now is no picture of the middle: the page has put the end beside the view.
    tab.save(path)
    assert "stopped" in outputs(path)[1].data["text/html"]
    assert "parameters" in outputs(path)[1].data["text/html"]


def test_any_saved_moment_opens_with_a_picture(lab: Lab, tab: Tab) -> None:
    path = begin(tab, lab, "moment.ipynb", training())
    tab.save(path)
    first, second = (output.data for output in outputs(path))
    assert WIDGET in first and WIDGET not in second
    assert "data:image/svg+xml" in second["text/html"] and "AdamW" in second["text/html"]
    html, _ = nbconvert.HTMLExporter().from_filename(path)
    assert "data:image/svg+xml" in html and "Error" not in html.partition("<main")[2]
    # The kernel that knew the view is gone; the file is trusted, so its page looks for the view all the same.
    tab.page.evaluate(RESTART)
    tab.page.goto("about:blank")
    tab.open(lab, path.name)
    tab.page.locator(STILL).wait_for(timeout=30_000)
    assert tab.page.locator(STILL).evaluate("image => image.naturalWidth") > 0
    # The page gives the view up after a few seconds; its word about that is not for a person to see.
    tab.page.get_by_text(re.compile("Error displaying widget|Loading widget")).first.wait_for(state="hidden")
    tab.page.wait_for_timeout(6000)
    expect(tab.page.get_by_text(re.compile("Error displaying widget|Loading widget"))).to_be_hidden()
    assert "train digits" in tab.cell(1).inner_text() and "as of" in tab.cell(1).inner_text()
    # Unsigned, nothing in it is trusted.
    book = nbformat.read(path, as_version=4)
    book.cells[1].source += " "
    nbformat.write(book, lab.root / "foreign.ipynb")
    tab.open(lab, "foreign.ipynb")
    tab.page.locator("img[src^='data:image/svg']").wait_for(timeout=30_000)
    expect(tab.page.get_by_text(re.compile("Error displaying widget|Loading widget"))).to_have_count(0)


def test_a_restart_leaves_the_training_on_a_service_alone(lab: Lab, tab: Tab) -> None:
    path = begin(tab, lab, "restart.ipynb", training(), SETUP + "%connect local")
    tab.save(path)
    tab.page.evaluate(RESTART)
    expect(tab.page.locator(".maas-chip")).to_have_text("kernel gone", timeout=60_000)
    expect(tab.page.locator(".maas-notes")).to_contain_text("%maas attach")
    attach = re.search(r"%maas attach \w+", tab.page.locator(".maas-notes").inner_text())
    assert attach
    lab.write("after.ipynb", [SETUP + "%connect local", f"job = {attach[0]}\nprint(job.info.state)"])
    tab.open(lab, "after.ipynb")
    tab.run(0, wait=True)
    assert "running" in tab.run(1, wait=True).inner_text()
    view = tab.page.locator(".maas")
    seq = view.get_attribute("data-seq") or ""
    expect(view).not_to_have_attribute("data-seq", seq, timeout=30_000)
    view.locator(".maas-stop").click()
    tab.cell(1).locator("img").first.wait_for(timeout=60_000)
    assert "stopped" in tab.cell(1).inner_text()


def test_the_interrupt_button_stops_a_training_on_a_service(lab: Lab, tab: Tab) -> None:
    begin(tab, lab, "interrupt.ipynb", training(), SETUP + "%connect local")
    tab.page.locator('[data-jp-item-name="interrupt"]').first.click()
    tab.wait_done(1, timeout=60)
    text = tab.cell(1).inner_text()
    assert "stopped" in text and "KeyboardInterrupt" in text
