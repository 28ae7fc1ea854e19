"""Errors are short, keep their kind on any way, and know what was meant."""

from __future__ import annotations

import copy
import inspect
import pickle
import sys

import pytest

from maas_magics.api import errors
from maas_magics.api.errors import MaasError, MissingDependency, ModelNotFound, NotFound, did_you_mean, require

TREE = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, MaasError)]


@pytest.mark.parametrize("kind", TREE)
@pytest.mark.parametrize("hint", ["", "%maas models"])
def test_an_error_renders_in_two_lines(kind: type[MaasError], hint: str) -> None:
    error = kind("It went wrong.", hint)
    lines = error._render_traceback_()
    assert lines == [f"{kind.__name__}: It went wrong.", *([f"  → {hint}"] if hint else [])]
    assert str(error) == "It went wrong." + (f"\n{hint}" if hint else "")


@pytest.mark.parametrize("kind", TREE)
def test_an_error_survives_pickle_and_copy(kind: type[MaasError]) -> None:
    error = kind("message", "hint")
    for back in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(back) is kind and (back.message, back.hint) == ("message", "hint")


def test_the_tree_can_be_caught_by_its_branches() -> None:
    assert issubclass(ModelNotFound, NotFound) and issubclass(NotFound, MaasError)
    assert all(kind.__doc__ for kind in TREE) and len(TREE) > 12


@pytest.mark.parametrize(
    ("word", "choices", "told"),
    [
        ("pengiuns", ["penguins", "wines"], "Did you mean 'penguins'?"),
        ("--ep", ["--epochs", "--set"], "Did you mean '--epochs'?"),
        ("multi", ["binary", "multiclass", "multilabel"], "Did you mean 'multiclass' or 'multilabel'?"),
        ("--", ["--epochs", "--set"], "There is: --epochs, --set."),
        ("xyz", ["b", "a", "a"], "There is: a, b."),
        ("xyz", [], ""),
        ("xyz", [f"n{i:02d}" for i in range(20)], "There is: " + ", ".join(f"n{i:02d}" for i in range(12)) + ", …."),
    ],
)
def test_did_you_mean(word: str, choices: list[str], told: str) -> None:
    assert did_you_mean(word, choices) == told


def test_a_missing_package_names_the_command() -> None:
    require("json", "json", "This")
    assert "surely_not_there" not in sys.modules
    with pytest.raises(MissingDependency) as caught:
        require("surely_not_there", "surely-not-there", "The sweep")
    assert caught.value.hint == "%pip install surely-not-there"
