"""How many texts are written at a time, and how long each may be: what the memory for keys and values allows."""

from __future__ import annotations

from typing import NamedTuple

from maas_magics.api.errors import ModelError
from maas_magics.api.tables import size

SLOTS, MOST_SLOTS = 8, 64
"""Answers that are written at a time: usually, and where memory for more was given."""

MEMORY = 2**30
"""Bytes of keys and values, where nothing is said."""

LENGTH = 2_048
"""Tokens of a text that a model which reads fewer has room for as well, if its places allow; one that reads more gives
them up before it gives up slots."""


class Room(NamedTuple):
    """What an engine is given.

    Attributes
    ----------
    slots : int
        Texts at a time.
    length : int
        Tokens of each, at most.
    """

    slots: int
    length: int


def room_for(ref: str, token: int, longest: int, memory: int | None) -> Room:
    """Slots, and tokens of each: as many as leave room for the usual slots, then as many slots as the memory holds.

    Of what is left beyond the usual slots, half is for more of them, the rest for texts of before.

    Parameters
    ----------
    ref : str
        ``name:version``, for the error.
    token : int
        Bytes of the keys and values of one token, in all layers.
    longest : int
        Tokens of a text, at most.
    memory : int or None
        Bytes of all keys and values; the usual bound when None, within which one slot is always taken.

    Raises
    ------
    ModelError
        If not even one slot fits.
    """
    given = MEMORY if memory is None else memory
    length = max(min(longest, LENGTH), min(longest, given // (token * SLOTS)))
    slots = given // (token * length)
    if memory is None:
        return Room(max(1, min(slots, SLOTS)), length)
    if not slots:
        raise ModelError(
            f"{ref} keeps {size(token * length)} of keys and values for one text of {length:,} tokens; "
            f"kv-memory is {size(memory)}.",
            f"--kv-memory {-(-token * length // 10**6)}MB, or more",
        )
    return Room(min(slots if slots < SLOTS else SLOTS + (slots - SLOTS) // 2, MOST_SLOTS), length)
