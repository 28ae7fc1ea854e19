"""Tokens in files that their owner alone may read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from maas_magics.api.errors import OptionError


def read_token(file: Path) -> str:
    """Token in a file.

    Parameters
    ----------
    file : Path
        File that holds the token alone, readable by its owner only.

    Raises
    ------
    OptionError
        If it cannot be read, or others may read it.
    """
    try:
        mode = file.stat().st_mode
        token = file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"The token cannot be read from {file}: {getattr(error, 'strerror', error)}.") from None
    if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise OptionError(f"Others may read the token in {file}.", f"chmod 600 {file}")
    if not token or not token.isascii() or any(letter.isspace() for letter in token):
        raise OptionError(f"{file} does not hold a token: one line of text.")
    return token
