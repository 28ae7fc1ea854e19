"""Pictures and sounds side by side, each with a line or two below it."""

from __future__ import annotations

from base64 import b64encode
from html import escape

import msgspec

MOST = 12
"""Examples that are shown."""

WIDTH = 96
"""Longest side of a picture in CSS pixels; of the picture of a sound it is the height."""

GOOD, BAD = "#2f9e6b", "#d1495b"
"""Colours of what is right and of what is not, readable on light and on dark."""


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """One picture or sound.

    Attributes
    ----------
    row : int
        Place among the rows that were given, from 0.
    title : str
        What the model answers, or what this is.
    note : str
        What is beside it, such as the true label.
    right : bool or None
        Whether the answer is right, where that is known.
    image : bytes
        A small JPEG or PNG.
    audio : bytes
        A short MP3; empty for pictures.
    """

    row: int
    title: str
    note: str = ""
    right: bool | None = None
    image: bytes = b""
    audio: bytes = b""


class Gallery(msgspec.Struct, frozen=True, kw_only=True):
    """Examples that a notebook shows side by side.

    Attributes
    ----------
    caption : str
        What they are.
    examples : tuple of Example
        In their order.
    columns : int
        How many stand in a row; as many as there is room for when 0.
    """

    caption: str
    examples: tuple[Example, ...]
    columns: int = 0

    def __repr__(self) -> str:
        told = "".join(f"\n  row {one.row}: {one.title}{f' ({one.note})' if one.note else ''}" for one in self.examples)
        return f"<Gallery {self.caption}, {len(self.examples)} rows>{told}"

    def _repr_html_(self) -> str:
        return html_gallery(self.examples, self.caption, self.columns)


def html_gallery(examples: tuple[Example, ...], caption: str = "", columns: int = 0) -> str:
    """Examples as HTML that a saved notebook keeps; every text is escaped.

    Parameters
    ----------
    examples : tuple of Example
        In their order; nothing is made of none.
    caption : str
        Text above them.
    columns : int
        How many stand in a row; as many as there is room for when 0.
    """
    if not examples:
        return ""
    title = f'<div style="font-weight:600;padding:4px 0">{escape(caption)}</div>' if caption else ""
    across = f"repeat({columns},max-content)" if columns else f"repeat(auto-fill,minmax({WIDTH + 24}px,max-content))"
    style = f"display:grid;grid-template-columns:{across};gap:10px 14px;align-items:end;margin:4px 0"
    return f'{title}<div style="{style}">{"".join(map(_card, examples))}</div>'


def _card(one: Example) -> str:
    colour = "" if one.right is None else f";color:{GOOD if one.right else BAD}"
    mark = "" if one.right is None else "✓ " if one.right else "✗ "
    kind = "png" if one.image.startswith(b"\x89PNG") else "jpeg"
    limits = f"max-height:{WIDTH}px" + ("" if one.audio else f";max-width:{WIDTH}px")
    words = escape(f"row {one.row}: {one.title}", quote=True)
    image = (
        f'<img alt="{words}" title="{words}" style="{limits};min-height:48px;image-rendering:auto" '
        f'src="data:image/{kind};base64,{b64encode(one.image).decode()}">'
        if one.image
        else ""
    )
    player = (
        '<br><audio controls preload="none" style="width:192px;height:28px" '
        f'src="data:audio/mpeg;base64,{b64encode(one.audio).decode()}"></audio>'
        if one.audio
        else ""
    )
    note = f'<div style="opacity:.65">{escape(one.note)}</div>' if one.note else ""
    return (
        f'<div style="font-size:12px;line-height:1.35;overflow-wrap:anywhere">{image}{player}'
        f'<div style="font-weight:600{colour}">{mark}{escape(one.title)}</div>{note}</div>'
    )
