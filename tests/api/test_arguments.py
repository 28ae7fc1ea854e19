"""Arguments of wrong kinds are told in two lines, whichever parameter of whichever public function gets them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest

import maas_magics as maas
from maas_magics.api.arguments import declared
from maas_magics.api.errors import MaasError, OptionError
from maas_magics.api.events import EpochEnd

FUNCTIONS = [name for name in maas.__all__ if "ipython" not in name and name.islower()]

WRONG: dict[str, Callable[[], Any]] = {
    "int": lambda: 3,
    "negative": lambda: -1,
    "float": lambda: 2.5,
    "nan": lambda: float("nan"),
    "true": lambda: True,
    "none": lambda: None,
    "text": lambda: "nonsense",
    "empty": lambda: "",
    "null": lambda: "a\0b",
    "bytes": lambda: b"x",
    "list": lambda: [1, "a", None],
    "dict": lambda: {"a": 1},
    "numbers": lambda: {1: "b"},
    "set": lambda: {1},
    "object": object,
    "type": lambda: int,
    "function": lambda: lambda: 0,
    "array": lambda: np.array([1, 2]),
    "zero": lambda: np.array(3),
    "iterator": lambda: iter([]),
    "complex": lambda: 1j,
}

OWN = {"model": ("type", "function"), "loss": ("type", "function")}
"""Kinds that are right: what a function of the user's own raises is the user's to see."""

FRAME = pd.DataFrame({"a": np.arange(24.0), "y": ["u", "v"] * 12})


@pytest.fixture(scope="module", autouse=True)
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A model to ask, in a store of the module's own."""
    from maas_magics import session

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAAS_STORE", str(tmp_path_factory.mktemp("store")))
        patch.chdir(tmp_path_factory.mktemp("here"))
        patch.setattr(session, "_session", None)
        maas.train("m", FRAME, "y", model="linear", epochs=1)
        yield


GOOD: dict[str, dict[str, Any]] = {
    "train": {"name": "n", "data": FRAME, "target": "y", "model": "linear", "epochs": 1, "threads": 1},
    "predict": {"model": "m", "data": FRAME},
    "evaluate": {"model": "m", "data": FRAME},
    "export": {"model": "m", "format": "safetensors"},
    "highlight": {"model": "m", "data": FRAME},
    "search": {"model": "m", "query": "a text", "data": FRAME},
    "show": {"model": "m", "data": FRAME},
    "augmented": {"data": FRAME, "augment": "flip"},
    "alias": {"model": "m", "alias": "best"},
    "attach": {"job": "nobody"},
    "stop": {"job": "nobody"},
    "logs": {"job": "nobody"},
    "load": {"model": "m"},
    "remove": {"model": "nobody"},
    "connect": {"where": "kernel"},
    "serve": {"model": "nobody"},
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_argument_of_a_wrong_kind_ends_in_a_raw_error(name: str) -> None:
    function = getattr(maas, name)
    raw, refused = [], 0
    for parameter, one in inspect.signature(function).parameters.items():
        for kind, make in WRONG.items():
            if name == "train" and kind in OWN.get(parameter, ()):
                continue
            given = {**GOOD.get(name, {}), parameter: make()}
            try:
                if one.kind is one.VAR_POSITIONAL:
                    function("m", make())
                else:
                    function(**given)
            except MaasError as error:
                refused += 1
                lines = str(error).splitlines()
                if len(lines) > 2 or not error.message or any(len(line) > 400 for line in lines):
                    raw.append(f"{parameter}={kind}: {error}")
            except Exception as error:
                raw.append(f"{parameter}={kind}: {type(error).__name__}: {error}")
    assert not raw, "\n".join(raw)
    assert refused or not inspect.signature(function).parameters


@pytest.mark.parametrize(
    ("given", "told", "hint"),
    [
        ({"epochs": 2.5}, "epochs is 2.5; a whole number was expected.", "epochs=… takes a whole number."),
        ({"epochs": True}, "epochs is True; a whole number was expected.", ""),
        ({"batch_size": [1]}, "batch size is of type list; a whole number or 'auto' was expected.", ""),
        ({"lr_of": {"a.*": "fast"}}, "lr of holds 'fast'; a dict of numbers was expected.", "lr_of=…"),
        ({"unfreeze": {"a.*": 2.5}}, "unfreeze holds 2.5; a dict of whole numbers", ""),
        ({"freeze": ["a", 3]}, "freeze holds 3; a text or a list of texts was expected.", ""),
        ({"metrics": 3}, "metrics is 3; a text or a list", ""),
        ({"outputs": "logit"}, "outputs: there is no 'logit'.", "Did you mean 'logits'?"),
        ({"params": 3}, "params is 3; a dict was expected.", ""),
        ({"weights": FRAME.a}, "weights is of type Series; a text was expected.", ""),
    ],
)
def test_what_was_expected_is_told(given: dict[str, Any], told: str, hint: str) -> None:
    with pytest.raises(OptionError) as caught:
        maas.train("n", FRAME, "y", **given)
    assert told in caught.value.message and hint in caught.value.hint


def test_numbers_of_numpy_are_numbers() -> None:
    model = maas.train("np", FRAME, "y", model="linear", epochs=np.int64(2), lr=np.float32(0.01), seed=np.uint8(3),
                       balance=np.bool_(True), metrics="accuracy")  # fmt: skip
    assert model.epochs == 2 and model.info.lineage["seed"] == "3"


def test_a_call_is_checked_as_python_binds_it() -> None:
    @declared
    def f(a: int, /, b: str = "", *rest: int, c: float | None = None, **more: Any) -> tuple[Any, ...]:
        return a, b, rest, c, more

    assert f(1, "x", 2, 3, c=1, d=object) == (1, "x", (2, 3), 1, {"d": object})
    for wrong in (lambda: f(), lambda: f("1"), lambda: f(1, 2), lambda: f(1, "x", "y"), lambda: f(1, c="x")):
        with pytest.raises(OptionError):
            wrong()


@pytest.mark.parametrize(
    ("call", "told", "hint"),
    [
        (lambda: maas.predict("m", FRAME, proba=True), "predict has no argument 'proba'.", "'probabilities'"),
        (lambda: maas.train("n", FRAME, "y", epoch=3), "train has no argument 'epoch'.", "'epochs'"),
        (lambda: maas.train("n", FRAME, "y", batchsize=3), "train has no argument 'batchsize'.", "'batch_size'"),
        (lambda: maas.train("n", FRAME, "y", learning_rate=3), "no argument 'learning_rate'.", "'lr'"),
        (lambda: maas.train("n", FRAME, y="y"), "train has no argument 'y'.", "'target'"),
        (lambda: maas.train("n", FRAME, "y", hparams={}), "train has no argument 'hparams'.", "'params'"),
        (
            lambda: maas.export("m", fmt="onnx"),
            "export has no argument 'fmt'.",
            "There is: auto, compress, data, encrypt, format, max_drop, model, out, target, tolerance",
        ),
        (lambda: maas.evaluate("m"), "evaluate needs data.", "evaluate(model, data, …)"),
        (lambda: maas.predict(), "predict needs model and data.", "predict(model, data, …)"),
        (lambda: maas.predict("m", FRAME, data=FRAME), "predict: data is given twice.", "predict(model, data, …)"),
        (lambda: maas.predict("m", FRAME, True), "predict takes 2 arguments without a name; 3 were given.", "top=…"),
        (lambda: maas.load("m", "n"), "load takes 1 argument without a name; 2 were given.", "load(model)"),
        (lambda: maas.models("m"), "models takes 0 arguments without a name; 1 were given.", "models()"),
        (lambda: maas.compare(model="m"), "compare has no argument 'model'.", ""),
    ],
)
def test_what_python_cannot_bind_is_told(call: Callable[[], Any], told: str, hint: str) -> None:
    with pytest.raises(OptionError) as caught:
        call()
    assert told in caught.value.message and hint in caught.value.hint


def test_one_function_stands_for_a_list_of_them() -> None:
    seen: list[Any] = []

    def stop(event: Any) -> str | None:
        seen.append(event)
        return "stop" if isinstance(event, EpochEnd) else None

    rows = pd.DataFrame({"a": range(40), "y": [0, 1] * 20})
    trained = maas.train("m", rows, "y", model="linear", epochs=5, callbacks=stop)
    assert len(seen) > 1 and trained.epochs <= 5
    with pytest.raises(OptionError, match="callbacks"):
        maas.train("m", rows, "y", callbacks=3)
