"""`watch` in a real kernel without a page: what is sent, what is left in an executed notebook."""

from __future__ import annotations

import os
import queue
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbclient
import nbconvert
import nbformat
import pytest
from jupyter_client.manager import start_new_kernel

IMPORT = "from thread_job import train, predict; from maas_magics.widgets import watch\n"
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def execute(*sources: str, env: dict[str, str] | None = None) -> nbformat.NotebookNode:
    """Notebook of these cells after nbclient ran it."""
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    nbclient.NotebookClient(book, timeout=60, kernel_name="python3").execute(env={**os.environ, **(env or {})})
    return book


def kinds(cell: nbformat.NotebookNode) -> list[list[str]]:
    """MIME types of every output of a cell."""
    return [list(output.get("data", {output.output_type: ""})) for output in cell.outputs]


CHART, TABLE = ["image/png", "image/svg+xml", "text/plain"], ["text/html", "text/plain"]


@pytest.fixture(scope="module")
def book() -> nbformat.NotebookNode:
    with pytest.MonkeyPatch.context() as patch:
        here = Path(__file__).parent
        patch.setenv("PYTHONPATH", os.pathsep.join((str(here.parents[1]), str(here), os.environ.get("PYTHONPATH", ""))))
        return execute(
            IMPORT + "watch(train(epochs=3, warn='3 rows dropped'))",
            "watch(predict())",
            "job = train(epochs=3); watch(job, block=False)",
            "import threading as t; [one.join() for one in t.enumerate() if one.name == 'maas-view']; print('later')",
            "watch(train(fail_at=2))",
            "import sys; print('matplotlib.pyplot' in sys.modules, 'anywidget' in sys.modules)",
        )


def test_an_executed_notebook_has_chart_and_table(book: nbformat.NotebookNode) -> None:
    assert kinds(book.cells[0]) == [CHART, TABLE]
    assert "3 rows dropped" in book.cells[0].outputs[1].data["text/plain"]


def test_a_job_without_epochs_has_its_table_first(book: nbformat.NotebookNode) -> None:
    first = book.cells[1].outputs[0].data
    assert list(first) == TABLE
    assert "10,000 rows" in first["text/plain"]


def test_a_background_job_ends_in_its_own_cell(book: nbformat.NotebookNode) -> None:
    assert kinds(book.cells[2]) == [CHART, TABLE]
    assert [output.get("text") for output in book.cells[3].outputs] == ["later\n"]


def test_a_failed_job_shows_how_far_it_came(book: nbformat.NotebookNode) -> None:
    assert kinds(book.cells[4]) == [CHART, TABLE]
    table = book.cells[4].outputs[1].data["text/html"]
    assert "failed" in table
    assert "the loss became NaN" not in table, "the error itself follows; it need not be said twice"


def test_nothing_is_loaded_that_nobody_can_see(book: nbformat.NotebookNode) -> None:
    assert book.cells[5].outputs[0].text == "False False\n"


def test_converted_it_names_no_widget(book: nbformat.NotebookNode) -> None:
    text = nbformat.writes(book)
    html, _ = nbconvert.HTMLExporter().from_notebook_node(book)
    for page in (text, html):
        assert "widget-view" not in page
        assert "model not found" not in page.lower()
    assert "<img" in html
    assert "3 rows dropped" in html


def test_static_output_is_the_same_in_two_runs() -> None:
    cells = ("watch(train(epochs=2, pause=PAUSE))", "watch(train(epochs=1), block=False)", "watch(predict())")
    runs = [
        execute(IMPORT + f"PAUSE = {pause}", *cells, env={"MAAS_UI": "static"}).cells[1:] for pause in (0.001, 0.003)
    ]
    outputs = [[cell.outputs for cell in run] for run in runs]
    assert outputs[0] == outputs[1]
    assert kinds(runs[0][0]) == [CHART, TABLE]
    assert kinds(runs[0][2]) == [TABLE]
    assert runs[0][1].outputs[0].text == "started train penguins\n"


@pytest.fixture
def messages() -> Iterator[Any]:
    """Function that runs code in a kernel as a page does, or as a program does, and returns what came back."""
    manager, client = start_new_kernel(kernel_name="python3", env=os.environ.copy())

    def run(code: str, *, page: bool = True) -> list[dict[str, Any]]:
        request = client.execute(code, allow_stdin=page)
        seen: list[dict[str, Any]] = []
        while True:
            try:
                message = client.get_iopub_msg(timeout=60)
            except queue.Empty:
                raise AssertionError("the kernel went silent") from None
            seen.append(message)
            over = message["msg_type"] == "status" and message["content"]["execution_state"] == "idle"
            if over and message["parent_header"].get("msg_id") == request:
                return seen

    yield run
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def test_twelve_hundred_steps_cost_few_messages(messages: Any) -> None:
    seen = messages(IMPORT + "watch(train(epochs=20, steps=60, pause=.005, warn='w'))")
    count = Counter(message["msg_type"] for message in seen)
    seconds = (seen[-1]["header"]["date"] - seen[0]["header"]["date"]).total_seconds()
    assert count["comm_msg"] >= 2, count
    assert sum(count.values()) < 40 + 18 * seconds, "as many as a person sees, however many steps there are"
    assert count["stream"] == count["error"] == 0


def test_the_first_output_carries_every_form_and_the_end_no_widget(messages: Any) -> None:
    seen = messages(IMPORT + "watch(train(epochs=2))")
    shown = [message["content"]["data"] for message in seen if message["msg_type"] == "display_data"]
    assert set(shown[0]) == {"application/vnd.jupyter.widget-view+json", "text/html", "text/plain"}
    updates = [message["content"]["data"] for message in seen if message["msg_type"] == "update_display_data"]
    # A page may show the widget without being able to say so: before the end its output is left alone.
    assert [list(data) for data in updates] == [CHART, TABLE]


def test_a_silent_page_gets_plain_html_in_the_second_output(messages: Any) -> None:
    seen = messages(IMPORT + "watch(train(epochs=20, steps=60, pause=.005))")
    ids = [m["content"]["transient"]["display_id"] for m in seen if m["msg_type"] == "display_data"]
    updates = [m["content"] for m in seen if m["msg_type"] == "update_display_data"]
    early = [content for content in updates if "image/png" not in content["data"]][:-1]
    assert early
    assert all(content["transient"]["display_id"] == ids[1] for content in early)
    assert "epoch" in early[0]["data"]["text/plain"]


def test_a_program_gets_plain_html_in_the_first_output(messages: Any) -> None:
    seen = messages(IMPORT + "watch(train(epochs=5, steps=60, pause=.005))", page=False)
    first, _ = (m["content"] for m in seen if m["msg_type"] == "display_data")
    assert set(first["data"]) == set(TABLE)
    updates = [m["content"] for m in seen if m["msg_type"] == "update_display_data"]
    early = [content for content in updates if "image/png" not in content["data"]][:-1]
    assert early
    assert all(content["transient"] == first["transient"] for content in early)
    assert not any(m["msg_type"].startswith("comm") for m in seen)
