"""The helper jobs can be imported here and in the kernels that the tests start."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))


@pytest.fixture(autouse=True)
def paths(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels and scripts find the package and the helper jobs; no view is chosen by the tester's own environment."""
    inherited = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(HERE.parents[1]), str(HERE), inherited)))
    monkeypatch.delenv("MAAS_UI", raising=False)
