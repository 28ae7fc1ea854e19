"""A training ends when its time is up, and says why a network was chosen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import maas_magics as maas
from maas_magics.api.errors import OptionError
from maas_magics.api.events import Message, Started
from maas_magics.core.training.time_limit import TimeLimit

pytestmark = pytest.mark.usefixtures("lab")

N = 200
X = np.random.default_rng(0).normal(size=(N, 3)).astype("float32")
TABLE = pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "kind": ["u", "v"] * (N // 2), "y": X[:, 0] - X[:, 1]})


def test_time_is_up_after_a_step_at_least() -> None:
    said: list[str] = []
    wish = ""
    limit = TimeLimit(lambda: wish, 0.0, said.append)  # type: ignore[arg-type,return-value]
    assert [limit(), limit(), limit()] == ["", "soft", "soft"]
    assert said == ["The budget of 0 s is used up; the best so far is kept. --resume continues."]
    wish = "hard"
    assert limit() == "hard"
    assert not TimeLimit(lambda: "", 1e6, said.append)() and len(said) == 1


@pytest.mark.parametrize("model", ["mlp", "auto"])
def test_a_budget_ends_a_training_which_is_resumed(model: str) -> None:
    heard: list[Any] = []
    options: dict[str, Any] = {"data": TABLE, "target": "y", "model": model, "patience": 0}
    first = maas.train("m", epochs=100_000, budget="1s", callbacks=[heard.append], **options)
    assert first.info.version == 1 and 0 < first.epochs < 100_000
    said = [event.text for event in heard if isinstance(event, Message)]
    assert "The budget of 1 s is used up; the best so far is kept. --resume continues." in said
    again = maas.train("m", epochs=first.epochs + 1, resume=True, budget="10min", **options)
    assert again.info.version == 2 and again.epochs == first.epochs + 1
    assert again.history["loss"][: first.epochs] == first.history["loss"]


def test_what_was_chosen_is_said_with_its_reason() -> None:
    heard: list[Any] = []
    maas.train("m", TABLE, "y", epochs=1, threads=1, budget="2min", callbacks=[heard.append])
    started = next(event for event in heard if isinstance(event, Started))
    said = started.summary["chosen"]
    assert said.startswith("tabm for 170 rows of 2 numbers, 1 category, 1 thread, at most 120 s; --race tries linear")
    heard.clear()
    maas.train("m", TABLE, "y", model="mlp", epochs=1, callbacks=[heard.append])
    assert "chosen" not in next(event for event in heard if isinstance(event, Started)).summary
    texts = pd.DataFrame({"review": [f"it was a {'fine' if i % 2 else 'dull'} evening number {i}" for i in range(60)]})
    heard.clear()
    maas.train("t", texts.assign(y=[i % 2 for i in range(60)]), "y", epochs=1, callbacks=[heard.append])
    said = next(event for event in heard if isinstance(event, Started)).summary["chosen"]
    assert said.startswith("fusion for 51 rows of 1 text, ") and "textcnn" in said


def test_a_budget_is_a_length_of_time() -> None:
    with pytest.raises(OptionError, match="The budget 'soon' is not a length of time"):
        maas.train("m", TABLE, "y", budget="soon")
