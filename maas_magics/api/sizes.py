"""Sizes that people type: ``2GB``, ``500MB``."""

from __future__ import annotations

from maas_magics.api.errors import OptionError

UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def bytes_of(text: str, name: str, wanted: str, hint: str) -> int:
    """Bytes of a size.

    Parameters
    ----------
    text : str
        ``"2GB"``, ``"500MB"`` or ``"0"``.
    name : str
        What it is the size of.
    wanted : str
        What was expected, for the error.
    hint : str
        What to type, for the error.

    Raises
    ------
    OptionError
        If it is not a size.
    """
    word = str(text).strip().upper().replace(" ", "")
    unit = next((unit for unit in ("KB", "MB", "GB", "TB", "B") if word.endswith(unit)), "")
    try:
        found = float(word.removesuffix(unit)) * UNITS[unit or "B"]
    except ValueError:
        found = -1.0
    if not 0 <= found < 2**62 or (found and not unit):
        raise OptionError(f"{name} is {text!r}; {wanted} was expected.", hint)
    return int(found)


def kv_bytes(text: str) -> int:
    """Bytes of the keys and values that a model which writes may keep.

    Parameters
    ----------
    text : str
        ``"512MB"``.

    Raises
    ------
    OptionError
        If it is not a size above 0.
    """
    found = bytes_of(text, "kv-memory", "a size", "--kv-memory 512MB")
    if not found:
        raise OptionError(f"kv-memory is {text!r}; a size above 0 was expected.", "--kv-memory 512MB")
    return found
