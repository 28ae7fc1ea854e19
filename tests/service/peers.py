"""Programs of others that want an environment of their own: the folder of environments, one for each."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

HOME = Path(os.environ.get("MAAS_PEERS", Path(__file__).parents[2] / ".venv" / "peers"))


def python_of(peer: str) -> str:
    """Python of a peer's environment."""
    found = HOME / peer / "bin" / "python"
    if not found.exists():
        pytest.skip(f"no environment with {peer} in {HOME}: make peers")
    return str(found)
