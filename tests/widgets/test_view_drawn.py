"""Pictures that a network draws while it learns, as a page and a saved notebook show them."""

from __future__ import annotations

import json
import struct
from typing import Any

from test_view_history import log

from maas_magics.api.events import Message, Samples
from maas_magics.api.png import png
from maas_magics.widgets.history import History
from maas_magics.widgets.live import Packer
from maas_magics.widgets.words import baseline, summary

IMAGE = png(bytes(range(48)), 6, 8, 1)


def head_of(packet: bytes) -> dict[str, Any]:
    (size,) = struct.unpack_from("<I", packet)
    found: dict[str, Any] = json.loads(packet[4 : 4 + size])
    return found


def test_new_pictures_are_sent_once_and_all_to_a_page_that_opens_later() -> None:
    history, packer = History.of(log()[:12]), Packer()
    assert "drawn" not in head_of(packer.pack(history, full=True))
    history.add(Samples(seq=13, epoch=1, titles=("<b> one",), images=(IMAGE,)))
    first = head_of(packer.pack(history, full=False))["drawn"]
    assert first["head"] == "drawn in epoch 1" and first["pictures"][0][0] == "<b> one"
    assert first["pictures"][0][1].startswith("data:image/png;base64,")
    packer.note(history)
    history.add(Message(seq=14, text="go on"))
    assert "drawn" not in head_of(packer.pack(history, full=False))
    assert head_of(packer.pack(history, full=True))["drawn"] == first


def test_a_saved_notebook_keeps_the_newest_pictures_with_their_captions() -> None:
    history = History.of(log())
    assert "<img" not in summary(history)["text/html"]
    for epoch, title in ((1, "before"), (2, "<b> one")):
        history.add(Samples(seq=history.seq + 1, epoch=epoch, titles=(title,), images=(IMAGE,)))
    for html in (summary(history)["text/html"], baseline(history)["text/html"]):
        assert "drawn in epoch 2" in html and "&lt;b&gt; one" in html and "before" not in html
        assert html.count("data:image/png;base64,") == 1


def test_texts_that_a_network_writes_are_shown_as_they_are() -> None:
    history = History.of(log())
    history.add(Samples(seq=history.seq + 1, epoch=2, texts=("once <upon>\na time", "")))
    html = summary(history)["text/html"]
    assert "written in epoch 2" in html and "once &lt;upon&gt;\na time" in html and "<img" not in html
    head = head_of(Packer().pack(history, full=True))["drawn"]
    assert head["texts"] == ["once <upon>\na time", ""] and head["head"] == "written in epoch 2"
