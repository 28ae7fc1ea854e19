"""Texts with their entities marked: in a page by colours, in a terminal by brackets."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import msgspec

MOST = 20
"""Texts that are shown."""

LETTERS = 2_000
"""Letters of a text that are shown, those around its first entity where it has more."""

HUES = (210, 25, 130, 280, 50, 340, 175, 95)
"""Of the labels, in the order that they come in; background and border shine through, so any page's text is read."""

MARK = (
    "background:hsla({0},70%,50%,.22);border-bottom:2px solid hsla({0},70%,50%,.9);border-radius:3px;padding:1px 3px;"
    "color:inherit"
)
LABEL = "font-size:70%;font-weight:600;opacity:.75;padding-left:4px;user-select:none"
LINE = "white-space:pre-wrap;line-height:1.8;padding:2px 0"


class Mark(msgspec.Struct, frozen=True):
    """Some letters of a text, from ``start`` up to and without ``end``.

    Attributes
    ----------
    start, end : int
        Places in the text.
    label : str
        What they are.
    """

    start: int
    end: int
    label: str


class Highlighted(msgspec.Struct, frozen=True, kw_only=True):
    """Texts with their entities marked.

    Attributes
    ----------
    texts : tuple of str
        As they were given, at most as many as are shown.
    marks : tuple of tuple of Mark
        Of each text, in the order they stand in.
    rows : int
        Texts in all.
    """

    texts: tuple[str, ...]
    marks: tuple[tuple[Mark, ...], ...]
    rows: int

    def __repr__(self) -> str:
        lines = [
            "".join(f"[{part} | {label}]" if label else part for part, label in parts)
            for parts in map(_parts, self.texts, self.marks)
        ]
        return "\n".join([*lines, *self._more])

    def _repr_html_(self) -> str:
        labels = dict.fromkeys(mark.label for row in self.marks for mark in row)
        hues = {label: HUES[place % len(HUES)] for place, label in enumerate(labels)}
        lines = []
        for parts in map(_parts, self.texts, self.marks):
            told = "".join(
                f'<mark style="{MARK.format(hues[label])}">{escape(part)}<span style="{LABEL}">{escape(label)}</span>'
                "</mark>"
                if label
                else escape(part)
                for part, label in parts
            )
            lines.append(f'<div dir="auto" style="{LINE}">{told}</div>')
        more = "".join(f'<div style="opacity:.6">{escape(text)}</div>' for text in self._more)
        return f"<div>{''.join(lines)}{more}</div>"

    @property
    def _more(self) -> list[str]:
        left = self.rows - len(self.texts)
        return [f"… and {left:,} more"] if left > 0 else []


def _parts(text: str, marks: Sequence[Mark]) -> list[tuple[str, str]]:
    """Pieces of a text with the label of each; empty for what is between entities."""
    begin = max(0, min(marks[0].start - LETTERS // 4, len(text) - LETTERS)) if marks and len(text) > LETTERS else 0
    stop = min(len(text), begin + LETTERS)
    found, place = [("… ", "")] if begin else [], begin
    for mark in marks:
        if mark.end > stop:
            break
        found += [(text[place : mark.start], ""), (text[mark.start : mark.end], mark.label)]
        place = mark.end
    return [*found, (text[place:stop], ""), *([(" …", "")] if stop < len(text) else [])]
