"""What a job leaves behind: chart and table, in words and pictures."""

from __future__ import annotations

import math
import struct
import sys
from base64 import b64decode
from html import unescape
from xml.etree import ElementTree

import matplotlib as mpl
from msgspec.structs import replace
from test_view_history import log

from maas_magics.api.events import EpochEnd, Finished, Message, Progress, Started
from maas_magics.widgets.chart import HEIGHT, WIDTH
from maas_magics.widgets.history import History
from maas_magics.widgets.live import header
from maas_magics.widgets.sketch import sketch
from maas_magics.widgets.still import beside, bundles
from maas_magics.widgets.words import baseline, final_line, line, summary


def test_chart_and_table_have_every_form() -> None:
    (chart, metadata), (table, _) = bundles(History.of(log()))
    assert list(chart) == ["image/png", "image/svg+xml", "text/plain"]
    assert metadata["image/png"] == {"width": WIDTH, "height": HEIGHT, "alt": chart["text/plain"]}
    assert f"<title>{chart['text/plain']}</title>" in chart["image/svg+xml"]
    png = b64decode(chart["image/png"])
    assert struct.unpack(">II", png[16:24]) == (2 * WIDTH, 2 * HEIGHT)
    root = ElementTree.fromstring(chart["image/svg+xml"].split("?>", 1)[1])
    assert root.attrib["viewBox"] == f"0 0 {WIDTH * 0.75:g} {HEIGHT * 0.75:g}"
    assert list(table) == ["text/html", "text/plain"]
    assert "<script" not in table["text/html"]
    assert "class=" not in table["text/html"]
    assert "samples/s" in table["text/plain"]
    assert "time" in table["text/plain"]


def test_the_same_history_gives_the_same_picture() -> None:
    assert bundles(History.of(log()), volatile=False) == bundles(History.of(log()), volatile=False)


def test_speed_leaves_no_trace_in_a_steady_twin() -> None:
    slow, fast = (History.of(log(per_second=speed)) for speed in (3.0, 30.0))
    assert bundles(slow, volatile=False) == bundles(fast, volatile=False)
    text = summary(slow, volatile=False)["text/plain"]
    assert "samples/s" not in text
    assert "time" not in text
    assert not final_line(slow, volatile=False).endswith(" s")


def test_global_plotting_state_is_not_touched() -> None:
    # As plain dicts: asking rcParams itself for the backend would make it choose one.
    before, pyplot = dict(dict.items(mpl.rcParams)), "matplotlib.pyplot" in sys.modules
    bundles(History.of(log()), log=True)
    assert dict(dict.items(mpl.rcParams)) == before
    assert ("matplotlib.pyplot" in sys.modules) == pyplot


def test_a_job_without_epochs_has_no_chart() -> None:
    events = [Started(title="predict m", time=1.0), Progress(done=2000, total=2000, time=2.0)]
    outputs = bundles(History.of([*events, Finished(state="succeeded", time=2.0)]))
    assert len(outputs) == 1
    assert "2,000 rows" in outputs[0][0]["text/plain"]


def test_one_epoch_no_validation_and_nan_still_draw() -> None:
    start = Started(title="train m", epochs=1, steps_per_epoch=4)
    for loss in (0.5, math.nan, math.inf):
        end = EpochEnd(epoch=1, step=4, samples=32, train={"loss": loss})
        outputs = bundles(History.of([start, end, Finished(state="succeeded")]), log=True)
        assert len(outputs) == 2


def test_a_failed_job_says_why() -> None:
    history = History.of([*log()[:-1], Finished(state="failed", error="the loss became <NaN>")])
    table = summary(history)
    assert "failed" in table["text/plain"]
    assert "&lt;NaN&gt;" in table["text/html"]
    assert "the loss became <NaN>" in final_line(history)


def test_words_are_escaped_and_warnings_visible() -> None:
    history = History.of([Started(title="train <b>m</b>"), Message(text="<i>rows</i> dropped", level="warning")])
    html = baseline(history)["text/html"]
    assert "<i>" not in html
    assert "&lt;i&gt;rows" in html
    assert "train &lt;b&gt;m" in html
    assert "warning" in summary(history)["text/plain"]


def test_a_line_says_how_far_it_is() -> None:
    text = line(History.of(log()[:25]))
    assert text.startswith("train m  epoch 3/3  loss ")
    assert text.endswith("left")
    assert "stopping…" in line(History.of(log()[:25]), stopping=True)


def told() -> History:
    """A run that said what it does, left columns out, and ended early."""
    summary = {
        "task": "binary",
        "architecture": "mlp",
        "optimizer": "AdamW, lr 0.01",
        "batch size": "32",
        "device": "cpu",
    }
    events = log()
    start = replace(events[0], summary=summary, parameters=4321)
    notes = [Message(text=f"Column 'c{i}' is empty and is left out.") for i in range(30)]
    notes.append(Message(text="7 rows have no target.", level="warning"))
    notes.append(Message(text="early stop: no better loss for 25 epochs"))
    every = [start, *events[1:-1], *notes, events[-1]]
    return History.of(replace(event, seq=seq, time=seq / 10) for seq, event in enumerate(every, 1))


def test_the_final_picture_keeps_what_the_live_one_said() -> None:
    history = told()
    for volatile in (True, False):
        told_at_end = summary(history, volatile=volatile)
        for text in (told_at_end["text/plain"], unescape(told_at_end["text/html"])):
            for part in (
                "train m",
                "binary",
                "mlp",
                "AdamW, lr 0.01",
                "batch size",
                "4,321",
                "early stop: no better loss",
            ):
                assert part in text, part
            assert all(message.text in text for message in history.messages)


def test_what_stands_beside_a_live_view_is_a_picture_with_words() -> None:
    running = History.of(event for event in log()[:25])
    shown = beside(running, "a1", again="%maas attach j1")
    drawn = b64decode(shown["text/html"].partition("svg+xml;base64,")[2].partition('"')[0])
    root = ElementTree.fromstring(drawn)
    assert len(root.findall(".//{http://www.w3.org/2000/svg}g")) == 2
    assert "as of" in shown["text/html"] and "%maas attach j1" in shown["text/html"]
    assert "epoch 3/3" in shown["text/plain"]
    over = beside(told(), "a1")
    assert "as of" not in over["text/html"] and "succeeded" in over["text/html"] and "svg+xml" in over["text/html"]


def test_a_sketch_takes_what_is_no_number_and_what_never_changes() -> None:
    start = Started(title="train <m>", epochs=1, steps_per_epoch=4)
    for losses in ((math.nan,), (math.inf, 1.0), (0.0, 0.0), (-1e30, 1e30), (5.0,)):
        ends = [
            EpochEnd(epoch=i, step=4 * i, samples=32, train={"loss": loss}, validation={"<a&b>": loss})
            for i, loss in enumerate(losses, 1)
        ]
        drawn = sketch(History.of([start, *ends]))
        assert not drawn or ElementTree.fromstring(drawn) is not None
    assert sketch(History.of([start])) == ""


def test_the_end_is_told_when_what_stays_is_there() -> None:
    history = History.of(log())
    assert header(history, stopping=False, kept=False)["state"] == "finishing"
    assert header(history, stopping=False)["state"] == "succeeded"
