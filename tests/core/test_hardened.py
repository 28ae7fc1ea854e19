"""`--harden`: answers that tell less, the label as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from maas_magics.api.errors import OptionError
from maas_magics.api.requests import PredictRequest, TrainRequest
from maas_magics.core.inference.hardened import Harden, read_harden
from maas_magics.local.backend import LocalBackend

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(120, 4))
ROWS = pd.DataFrame(X, columns=list("abcd"))


def test_what_hardens_is_read() -> None:
    assert read_harden("round=2,top=1") == Harden(2, 1)
    assert read_harden(" top=3 ") == Harden(0, 3)
    assert read_harden("") is None
    for wrong in ("round", "round=0", "top=x", "blur=2", "round=-1"):
        with pytest.raises(OptionError, match="hardens nothing"):
            read_harden(wrong)


def answers(place: Path, model: str, harden: str, **options: Any) -> dict[str, Any]:
    found = LocalBackend(str(place), harden=harden).predict(PredictRequest(model=model, data=ROWS, **options))
    return found.columns


@pytest.mark.parametrize("engine", ["onnx", "torch"])
def test_probabilities_are_rounded_and_cut_and_labels_stay(engine: str, tmp_path: Path) -> None:
    kinds = np.array(["p", "q", "r"])[np.argmax(X[:, :3], axis=1)]
    backend = LocalBackend(str(tmp_path))
    backend.submit(
        TrainRequest(name="m", data=ROWS.assign(kind=kinds), target="kind", model="linear", epochs=3)
    ).result(600)
    if engine == "onnx":
        from maas_magics.api.requests import ExportRequest

        backend.submit(ExportRequest(model="m")).result(600)
    plain = answers(tmp_path, "m", "", probabilities=True)
    hard = answers(tmp_path, "m", "round=2,top=1", probabilities=True)
    assert hard["prediction"].equals(plain["prediction"])
    values, before = hard["probabilities"], plain["probabilities"]
    assert ((values > 0).sum(axis=1) == 1).all()
    assert np.allclose(values.max(axis=1), np.round(before.max(axis=1), 2), atol=1e-6)
    two = answers(tmp_path, "m", "top=2", probabilities=True)["probabilities"]
    assert ((two > 0).sum(axis=1) == 2).all()


def test_quantities_keep_their_first_digits(tmp_path: Path) -> None:
    LocalBackend(str(tmp_path)).submit(
        TrainRequest(name="m", data=ROWS.assign(y=1000 * X[:, 0]), target="y", model="linear", epochs=1)
    ).result(600)
    plain, hard = (answers(tmp_path, "m", harden)["prediction"] for harden in ("", "round=2"))
    assert np.allclose(hard, [float(f"{value:.1e}") for value in plain], rtol=1e-5)


def test_several_targets_are_refused(tmp_path: Path) -> None:
    LocalBackend(str(tmp_path)).submit(
        TrainRequest(
            name="m",
            data=ROWS.assign(y=X[:, 0], kind=np.where(X[:, 1] > 0, "p", "q")),
            target=["y", "kind"],
            model="linear",
            epochs=1,
        )
    ).result(600)
    with pytest.raises(OptionError, match="several targets"):
        answers(tmp_path, "m", "round=2")
