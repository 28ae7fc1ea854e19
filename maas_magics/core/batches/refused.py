"""Options that are not for what is trained."""

from __future__ import annotations

from collections.abc import Mapping

from maas_magics.api.errors import OptionError


def refuse_options(asked: Mapping[str, bool], why: str) -> None:
    """Raise for the first option that was requested.

    Parameters
    ----------
    asked : mapping of str to bool
        Whether each was, by its flag.
    why : str
        What the error says behind the flag: ``"is not for pairs."``.

    Raises
    ------
    OptionError
    """
    word = next((word for word, is_asked in asked.items() if is_asked), None)
    if word is not None:
        raise OptionError(f"{word} {why}", f"Drop {word}.")
