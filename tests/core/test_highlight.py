"""Entities are marked in the texts they were found in: as HTML that any page shows, and as plain text."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import maas_magics as maas
from maas_magics.api.errors import OptionError
from maas_magics.api.highlight import LETTERS, Highlighted, Mark

TEXTS = pd.DataFrame(
    {"text": [f"{'so ' * (i % 4)}{'anna' if i % 2 else 'bob'} went" for i in range(60)]},
)
TEXTS["spans"] = [
    [{"start": 3 * (i % 4), "end": len(text) - 5, "label": "x" if i % 2 else "y"}] for i, text in enumerate(TEXTS.text)
]


def marked(text: str, *marks: tuple[int, int, str], rows: int = 1) -> Highlighted:
    return Highlighted(texts=(text,), marks=(tuple(Mark(*mark) for mark in marks),), rows=rows)


def test_marks_stand_around_their_letters() -> None:
    found = marked("anna went to <b>rome</b>", (0, 4, "person"), (16, 20, "a&b"))
    assert repr(found) == "[anna | person] went to <b>[rome | a&b]</b>"
    html = found._repr_html_()
    assert "<b>" not in html and "&lt;b&gt;" in html and ">a&amp;b</span>" in html and html.count("<mark") == 2
    assert "color:inherit" in html and 'dir="auto"' in html  # reads on a dark page, and from the right
    assert repr(marked("nothing here")) == "nothing here"
    assert "… and 4 more" in repr(marked("a", rows=5)) and "and 4 more" in marked("a", rows=5)._repr_html_()


def test_labels_keep_their_colour() -> None:
    found = Highlighted(texts=("a b", "b"), marks=((Mark(0, 1, "x"), Mark(2, 3, "y")), (Mark(0, 1, "y"),)), rows=2)
    colours = [part.partition("%")[0] for part in found._repr_html_().split("background:hsla(")[1:]]
    assert colours[0] != colours[1] == colours[2]


def test_a_long_text_is_shown_around_its_first_entity() -> None:
    text = "so " * 5_000 + "anna" + " so" * 5_000
    told = repr(marked(text, (15_000, 15_004, "x")))
    assert "[anna | x]" in told and told.startswith("… ") and told.endswith(" …") and len(told) < LETTERS + 30
    assert len(marked("so " * 5_000)._repr_html_()) < 2 * LETTERS
    late = marked(text, (0, 2, "y"), (15_000, 15_004, "x"))
    assert "[so | y]" in repr(late) and "anna" not in repr(late)


def test_spans_and_tags_of_words_are_marked(store: Path) -> None:
    maas.train("spans", data=TEXTS, target="spans", epochs=10, lr=1e-2)
    found = maas.highlight("spans", TEXTS)
    assert found.rows == 60 and len(found.texts) == 20
    assert repr(found).splitlines()[:2] == ["[bob | y] went", "so [anna | x] went"]
    assert repr(maas.highlight("spans", "so bob went")) == "so [bob | y] went"
    words = pd.DataFrame({"tokens": TEXTS.text.str.split(), "tags": None})
    words["tags"] = [["O"] * (len(row) - 2) + ["B-x" if "anna" in row else "B-y", "O"] for row in words.tokens]
    maas.train("tags", data=words, target="tags", epochs=10, lr=1e-2)
    assert repr(maas.highlight("tags", words)) == repr(found)
    maas.train("plain", data=TEXTS.assign(y=range(60)), target="y", features="text", model="textcnn", epochs=1)
    with pytest.raises(OptionError, match="finds no entities"):
        maas.highlight("plain", TEXTS)
