"""Registries, and a contract that every registered architecture keeps; a new file is picked up by itself."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

import maas_magics as maas
from maas_magics.api.errors import NotFound
from maas_magics.api.results import TrainedModel
from maas_magics.core.architectures import architectures
from maas_magics.core.exporters import exporters
from maas_magics.core.registry import Registry
from maas_magics.core.tasks.multiclass import Multiclass
from maas_magics.magics import completions as offers
from maas_magics.magics.options import Typed
from maas_magics.magics.words import Names


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package of two modules that register themselves, and one that is no thing."""
    name = f"zoo_{tmp_path.name}"
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text(
        f"from maas_magics.core.registry import Registry\nanimals = Registry('animal', {name!r})\n"
    )
    for animal in ("cat", "dog"):
        code = f"from {name} import animals\n@animals.register({animal!r})\ndef {animal}(): return {animal!r}\n"
        (tmp_path / name / f"{animal}.py").write_text(code)
    (tmp_path / name / "helper.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    return name


def test_another_package_adds_its_own_by_an_entry_point(package: str, tmp_path: Path) -> None:
    info = tmp_path / "more_animals-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: more-animals\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[zoo]\nfox = collections:OrderedDict\ncat = collections:deque\nelk = nothing_there:elk\n"
    )
    animals: Registry[type] = Registry("animal", package, "zoo")
    zoo = __import__(package).animals
    assert animals.get("fox").__name__ == "OrderedDict"
    assert animals.names() == ["cat", "elk", "fox"] and zoo.names() == ["cat", "dog"]  # what is broken harms no other
    with pytest.raises(ModuleNotFoundError, match="nothing_there"):
        animals.get("elk")
    with pytest.raises(NotFound, match="no animal 'ox'") as caught:
        animals.get("ox")
    assert "fox" in caught.value.hint


def test_a_package_that_is_installed_meanwhile_is_found(package: str, tmp_path: Path) -> None:
    animals: Registry[type] = Registry("animal", package, f"zoo_{package}")
    __import__(package)
    assert "fox" not in animals.names() and "fox" not in animals.names()
    info = tmp_path / "late_animals-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: late-animals\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[zoo_{package}]\nfox = collections:OrderedDict\n")
    os.utime(tmp_path, ns=(0, tmp_path.stat().st_mtime_ns + 1))  # where times are too coarse to show it
    assert "fox" in animals.names() and animals.get("fox").__name__ == "OrderedDict"


def test_a_registry_fills_itself(package: str) -> None:
    animals = __import__(package).animals
    assert animals.get("dog")() == "dog"
    assert animals.names() == list(animals) == ["cat", "dog"]


def test_a_miss_lists_the_choices(package: str) -> None:
    animals = __import__(package).animals
    for word, told in (("dgo", "Did you mean 'dog'?"), ("whale", "There is: cat, dog."), ("helper", "There is")):
        with pytest.raises(NotFound, match=f"There is no animal '{word}'") as caught:
            animals.get(word)
        assert told in caught.value.hint


def test_a_name_that_is_taken_is_refused() -> None:
    registry: Registry[int] = Registry("number", "json")
    registry.register("one")(1)
    with pytest.raises(ValueError, match="the number 'one' is registered already"):
        registry.register("one")(2)
    assert registry.get("one") == 1


def test_completion_offers_what_is_registered() -> None:
    typed = Typed(Names({}), [], "", [], list, list, lambda model: [], lambda file: [])
    assert offers.architectures(typed) == architectures.names()
    assert offers.formats(typed) == exporters.names()


# --- every registered architecture ---


def fitting(layout: str) -> tuple[object, object]:
    """Rows that an architecture of this layout takes, and their labels."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 90)
    if layout == "image":
        return (rng.normal(size=(90, 8, 8)) + labels[:, None, None]).astype(np.float32), labels
    import pandas as pd

    table = pd.DataFrame(
        {"a": rng.normal(size=90) + labels, "b": rng.normal(size=90), "c": rng.choice(list("xyz"), 90)}
    )
    table.loc[::7, "b"] = np.nan
    return table, labels


OFFERED = {name: architectures.get(name) for name in architectures.names()}
OTHERS = ("prose", "captioned")
"""Layouts of the networks that learn a language, or draw pictures, which have tests of their own."""
SCRATCH = [
    name
    for name, offered in OFFERED.items()
    if offered.pretrained is None and not offered.of_pixels and offered.layout not in OTHERS
]
"""Those that need no folder, and answer once a row."""


@pytest.mark.parametrize("name", SCRATCH)
def test_an_architecture_trains_exports_and_answers_the_same(name: str, store: Path) -> None:
    rows, labels = fitting(architectures.get(name).arrays or architectures.get(name).layout)
    model = maas.train("m", rows, labels, model=name, epochs=1)
    assert isinstance(model, TrainedModel)
    assert model.info.architecture == name and model.info.parameters > 0 and model.info.task == "multiclass"
    before = np.asarray(maas.predict("m", rows, probabilities=True))
    artifact = maas.export("m")
    assert artifact.verification.max_abs_diff <= 1e-4
    after = np.asarray(maas.predict("m", rows, probabilities=True))
    probable = [part if part.dtype == np.float32 else part[:, 1:].astype(np.float32) for part in (before, after)]
    np.testing.assert_allclose(*probable, atol=1e-4)
    assert probable[0].shape == (90, 3)
    np.testing.assert_allclose(probable[0].sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("name", architectures.names())
def test_an_architecture_says_how_it_is_trained(name: str) -> None:
    architecture = architectures.get(name)
    recipe = architecture.recipe(1000, Multiclass(("y",), ("a", "b", "c")))
    assert recipe.lr > 0 and recipe.epochs >= 1 and recipe.batch_size >= 1
    assert architecture.network.__doc__ and architecture.layout in ("tabular", "flat", "image", "raw", "ports", *OTHERS)
