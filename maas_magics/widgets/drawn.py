"""Pictures that a network draws while it learns, side by side with their captions, and texts that it writes."""

from __future__ import annotations

from base64 import b64encode
from html import escape
from typing import Any

from maas_magics.api.events import Samples

WIDTH = 104
"""Width of a picture in CSS pixels."""


def html(samples: Samples | None) -> str:
    """Pictures as HTML that a saved notebook keeps; nothing of none.

    Parameters
    ----------
    samples : Samples or None
        The newest ones.
    """
    if samples is None:
        return ""
    style = f"display:grid;grid-template-columns:repeat(auto-fill,{WIDTH}px);gap:8px 12px;max-width:640px;margin:6px 0"
    picture = f"width:{WIDTH}px;image-rendering:pixelated;border-radius:4px;display:block"
    cards = "".join(
        f'<div style="font-size:11px;line-height:1.3;overflow-wrap:anywhere"><img alt="{escape(title, quote=True)}" '
        f'style="{picture}" src="{source(image)}">{escape(title)}</div>'
        for title, image in zip(samples.titles, samples.images, strict=True)
    )
    head = f'<div style="font-size:12px;margin-top:6px">{said(samples)}</div>'
    if samples.texts:
        lines = "white-space:pre-wrap;font:12px/1.4 monospace;max-width:640px;margin:4px 0;overflow-wrap:anywhere"
        return head + "".join(f'<div style="{lines}">{escape(text)}</div>' for text in samples.texts)
    return f'{head}<div style="{style}">{cards}</div>'


def plain(samples: Samples | None, after: int) -> dict[str, Any] | None:
    """The same for the live view: None where it has them already.

    Parameters
    ----------
    samples : Samples or None
        The newest ones.
    after : int
        The last event that the view has seen.
    """
    if samples is None or 0 < samples.seq <= after:
        return None
    pairs = zip(samples.titles, samples.images, strict=True)
    found: dict[str, Any] = {"head": said(samples), "pictures": [[title, source(image)] for title, image in pairs]}
    return found | ({"texts": list(samples.texts)} if samples.texts else {})


def said(samples: Samples) -> str:
    """When they were made.

    Parameters
    ----------
    samples : Samples
        Pictures or texts.
    """
    return f"{'written' if samples.texts else 'drawn'} in epoch {samples.epoch}"


def source(image: bytes) -> str:
    """A PNG file as what an ``img`` shows.

    Parameters
    ----------
    image : bytes
        Of the file.
    """
    return f"data:image/png;base64,{b64encode(image).decode()}"
