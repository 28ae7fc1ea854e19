"""A training ends when its time is up, and says why a network was chosen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import maas_magics as maas
from maas_magics.api.errors import OptionError
from maas_magics.api.events import Message, Started
from maas_magics.core.architectures import architectures
from maas_magics.core.training import choice
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
    begin = "tabm for 170 rows of 2 numbers, 1 category, 1 thread, at most 120 s: it takes about "
    assert said.startswith(begin) and "; --race tries linear" in said
    heard.clear()
    maas.train("m", TABLE, "y", model="mlp", epochs=1, callbacks=[heard.append])
    assert "chosen" not in next(event for event in heard if isinstance(event, Started)).summary
    texts = pd.DataFrame({"review": [f"it was a {'fine' if i % 2 else 'dull'} evening number {i}" for i in range(60)]})
    heard.clear()
    maas.train("t", texts.assign(y=[i % 2 for i in range(60)]), "y", epochs=1, callbacks=[heard.append])
    said = next(event for event in heard if isinstance(event, Started)).summary["chosen"]
    assert said.startswith("bow for 51 rows of 1 text, ")
    assert said.endswith(": textcnn is worth it from 10,000 rows on; --race tries textcnn, transformer too")


def asked(**options: Any) -> tuple[str, str]:
    """Architecture and the sentence about it."""
    heard: list[Any] = []
    trained = maas.train("m", epochs=1, callbacks=[heard.append], **options)
    summary = next(event for event in heard if isinstance(event, Started)).summary
    return trained.info.architecture, summary.get("chosen", "")


def test_a_budget_is_what_the_dearest_network_that_is_worth_it_has_to_fit_into(monkeypatch: Any) -> None:
    seconds = {"tabm": 50.0, "trees": 9.0, "linear": 0.2}
    names = {id(architectures.get(name)): name for name in architectures}
    monkeypatch.setattr(choice, "seconds_of", lambda architecture, *more: seconds[names[id(architecture)]])
    rows: dict[str, Any] = {"data": TABLE, "target": "y"}
    assert asked(**rows, budget="1min")[0] == "tabm"
    chosen, said = asked(**rows, budget="20s")
    assert chosen == "trees" and ": it takes about 9 s, tabm about 50 s; --race" in said
    chosen, said = asked(**rows, budget="0.1s")
    assert chosen == "linear" and ": the cheapest, since tabm about 50 s would be needed; --race" in said
    assert asked(**rows, budget="20s", batch_size=32)[0] == "linear", "trees take no size of batches"
    assert asked(**rows, budget="1s", params={"members": 2})[0] == "tabm", "hyperparameters belong to the usual network"
    assert asked(**rows)[0] == "tabm"


def test_the_time_of_a_training_is_found_without_a_trace() -> None:
    whole = maas.train("m", TABLE, "y", epochs=3, model="tabm")
    assert maas.train("m", TABLE, "y", epochs=3, budget="10min").history == whole.history
    pictures = np.random.default_rng(0).normal(size=(60, 12, 12)).astype("float32")
    chosen, said = asked(data=pictures, target=np.arange(60) % 2, budget="0.001s")
    assert chosen == "linear" and ": the cheapest, since cnn about " in said


def test_another_package_takes_part_by_what_its_record_says(monkeypatch: Any) -> None:
    own = replace(architectures.get("mlp"), suits={"table": 150}, cost=20)
    monkeypatch.setitem(architectures._entries, "own", own)
    assert asked(data=TABLE, target="y")[0] == "own"
    chosen, said = asked(data=TABLE[:100], target="y")
    assert chosen == "tabm" and ": own is worth it from 150 rows on; --race tries linear, trees, own too" in said


def test_what_is_heavy_waits_for_an_accelerator_or_a_budget_that_has_room(monkeypatch: Any) -> None:
    own = replace(architectures.get("mlp"), suits={"table": 0}, cost=20, heavy=True)
    monkeypatch.setitem(architectures._entries, "own", own)
    assert asked(data=TABLE, target="y")[0] == "tabm"
    assert asked(data=TABLE, target="y", budget="10min")[0] == "own"


def test_a_budget_is_a_length_of_time() -> None:
    with pytest.raises(OptionError, match="The budget 'soon' is not a length of time"):
        maas.train("m", TABLE, "y", budget="soon")
