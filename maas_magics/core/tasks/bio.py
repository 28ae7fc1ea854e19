"""Tags of words as spans of them, by BIO and schemes like it.

A span begins at ``B-X``, and at ``I-X`` where none of X is open, as conlleval and seqeval count by default; ``S-`` and
``U-`` are spans of one word, ``E-`` and ``L-`` end one. Tags without a prefix stand for ``I-``.
"""

from __future__ import annotations

from collections.abc import Sequence

OUTSIDE = "O"
"""The tag of a word that is part of no entity."""

GOES_ON, STAYS_OPEN = "IEL", "BI"
"""Prefixes that continue an open span, and after which one is open."""


def parted(tag: str) -> tuple[str, str]:
    """Prefix and label of a tag; the prefix is ``I`` where it has none."""
    prefix, dash, label = tag.partition("-")
    return (prefix, label) if dash and prefix in ("B", "I", "E", "S", "L", "U") else ("I", tag)


def spans_of(tags: Sequence[str]) -> list[tuple[int, int, str]]:
    """Spans of the words of a sentence: first word, the word behind the last, label.

    Parameters
    ----------
    tags : sequence of str
        One for each word.
    """
    found: list[tuple[int, int, str]] = []
    is_open = False
    for place, tag in enumerate(tags):
        prefix, label = parted(tag)
        if tag == OUTSIDE:
            is_open = False
            continue
        if is_open and prefix in GOES_ON and found[-1][2] == label:
            found[-1] = (found[-1][0], place + 1, label)
        else:
            found.append((place, place + 1, label))
        is_open = prefix in STAYS_OPEN
    return found
