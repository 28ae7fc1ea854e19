"""A training does not import torch's compiler, which would be most of its first second."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from maas_magics.core.compat.optimizers import KEPT_OFF, MARK, without_compiler

TRAINS = """
import sys
import numpy as np
import maas_magics as maas

rows = {"a": np.arange(60.0), "b": np.arange(60.0) % 7, "y": np.arange(60) % 2}
maas.train("m", rows, target="y", epochs=2, checkpoint_every="1")
maas.predict("m", rows)
print("heavy:", *[name for name in ("torch._dynamo", "torch.onnx", "torch.distributed.tensor") if name in sys.modules])
"""

WORKS = """
import sys
import maas_magics.core.training.distributed.__main__
print("heavy:", *[name for name in ("torch._dynamo", "torch.distributed.tensor") if name in sys.modules])
"""


@pytest.mark.parametrize("source", [TRAINS, WORKS], ids=["a table", "a worker's imports"])
def test_a_process_that_compiles_nothing_imports_no_compiler(source: str, store: object) -> None:
    done = subprocess.run([sys.executable, "-P", "-c", source], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1:] == ["heavy:"], done.stdout + done.stderr


def test_torch_is_as_it_was_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch._dynamo", raising=False)
    plain = [getattr(torch.optim.Optimizer, name).__wrapped__ for name in KEPT_OFF]
    for method in plain:
        if hasattr(method, MARK):
            monkeypatch.delattr(method, MARK)
    with without_compiler(), without_compiler():
        assert all(getattr(method, MARK) is method for method in plain)
    assert not any(hasattr(method, MARK) for method in plain)
