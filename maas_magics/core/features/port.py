"""Where a column reaches a network by itself."""

from __future__ import annotations

import msgspec


class Port(msgspec.Struct, frozen=True):
    """Where a column reaches a network by itself.

    Attributes
    ----------
    kind : str
        Name of its modality: ``text``, ``image``, ``audio``.
    shape : tuple of int
        Of a row; −1 is an axis of any length.
    size : int
        How many different token ids there are; 0 where it holds no ids.
    padding : int
        The token id behind the end of a row.
    longest : int
        Tokens that a row is cut at, where more places may come; 0 where none do.
    tokenizer : str
        The JSON of the tokenizer that makes the ids; empty where none does.
    banded : bool
        Whether the place along its first axis counts, as that of a band of pitches does.
    """

    kind: str
    shape: tuple[int, ...]
    size: int = 0
    padding: int = 0
    longest: int = 0
    tokenizer: str = ""
    banded: bool = False
