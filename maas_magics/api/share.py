"""Shares, as numbers or per cent."""

from __future__ import annotations

from maas_magics.api.errors import OptionError


def share_of(asked: float | str, flag: str, example: str = "1%") -> float:
    """A share below 1, as a number or per cent.

    Parameters
    ----------
    asked : float or str
        ``0.01`` or ``"1%"``.
    flag : str
        The option that has it, such as ``"--max-bad"``.
    example : str
        What to type.

    Raises
    ------
    OptionError
        If it is not such a share.
    """
    text = str(asked).strip()
    try:
        found = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        found = -1.0
    if not 0 <= found < 1:
        raise OptionError(
            f"{flag.lstrip('-').replace('-', ' ')} is {text}; a share of 0 or more and below 1 was expected.",
            f"{flag} {example}",
        )
    return found
