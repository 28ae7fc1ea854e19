"""Values that completion offers. Imports nothing heavy: a Tab must answer at once."""

from __future__ import annotations

import ast
import glob
import inspect
import os
import pkgutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import Any

from maas_magics.magics.typed import Typed
from maas_magics.magics.words import FILE_ENDINGS, column_names, is_module


def models(typed: Typed) -> list[str]:
    """Names of the models in the store; behind ``:`` and ``@``, versions and aliases of one."""
    for mark in ":@":
        name, found, _ = typed.word.partition(mark)
        if found:
            return [f"{name}{mark}{rest}" for rest in typed.versions(name) if rest.isdecimal() == (mark == ":")]
    return typed.models()


def aliases(typed: Typed) -> list[str]:
    """Names that the versions of the line's model have."""
    name = (typed.value_of() or "").partition(":")[0].partition("@")[0]
    return [alias for alias in typed.versions(name) if not alias.isdecimal()]


def jobs(typed: Typed) -> list[str]:
    """Models, which stand for their newest job, and ids of jobs."""
    return [*typed.models(), *typed.jobs()]


def held(typed: Typed, which: Callable[[Any], bool]) -> list[str]:
    """Variables that hold what is requested; before them, those of the function around, which may."""
    return [*typed.local, *(name for name, value in _variables(typed) if which(value))]


def _variables(typed: Typed) -> Iterator[tuple[str, Any]]:
    for name, value in typed.names.variables.items():
        if not name.startswith("_") and name not in ("In", "Out", "exit", "quit", "get_ipython", "open"):
            yield name, value


def tables(typed: Typed) -> list[str]:
    """Variables that hold tables or arrays; files, once a name is begun."""
    found = held(typed, lambda value: _is_table(value))
    return found + (paths(typed, FILE_ENDINGS) if typed.word else [])


def _is_table(value: Any) -> bool:
    return not isinstance(value, type) and bool(column_names(value) or hasattr(value, "__array__"))


def paths(typed: Typed, endings: tuple[str, ...] = ("",)) -> list[str]:
    """Files and folders that begin so."""
    word = typed.word.lstrip("\"'")
    found = sorted(glob.glob(glob.escape(os.path.expanduser(word)) + "*"))
    if word.startswith("~"):
        home = os.path.expanduser("~")
        found = ["~" + path.removeprefix(home) for path in found if path.startswith(home)]
    folders = [path + "/" for path in found if os.path.isdir(os.path.expanduser(path))]
    return [path for path in found if path.lower().endswith(endings) and path + "/" not in folders] + folders


def files(typed: Typed) -> list[str]:
    """Files and folders."""
    return paths(typed)


def columns(typed: Typed) -> list[str]:
    """Columns of the table or file that ``--data`` names, or variables that hold arrays."""
    return columns_only(typed) or tables(typed)


def columns_only(typed: Typed) -> list[str]:
    """Columns of the table or file that ``--data`` names."""
    word = typed.value_of("--data", "-d")
    if not word or word in typed.local:
        return []
    found = typed.names.variables.get(word)
    return typed.columns(word) if found is None else column_names(found)


def splits(typed: Typed) -> list[str]:
    """``time:COLUMN``, ``group:COLUMN``, shares, and other tables."""
    kind, colon, _ = typed.word.partition(":")
    if colon:
        return [f"{kind}:{column}" for column in columns_only(typed)]
    return ["0.2", *(["time:", "group:"]), *tables(typed)]


def whole_numbers(typed: Typed) -> list[str]:
    """Variables that hold whole numbers."""
    return held(typed, lambda value: type(value) is int)


def numbers(typed: Typed) -> list[str]:
    """Variables that hold numbers."""
    return held(typed, lambda value: type(value) in (int, float))


def or_auto(offer: Callable[[Typed], list[str]]) -> Callable[[Typed], list[str]]:
    """``auto``, and what ``offer`` finds."""
    return lambda typed: ["auto", *offer(typed)]


def functions(typed: Typed) -> list[str]:
    """Functions of the notebook."""
    return held(typed, lambda value: callable(value) and not isinstance(value, type) and not is_module(value))


def names(typed: Typed) -> list[str]:
    """Variables."""
    return held(typed, lambda value: True)


def architectures(typed: Typed) -> list[str]:
    """Registered architectures, and variables that hold modules; behind a colon, folders."""
    name, colon, ref = typed.word.partition(":")
    if colon:
        return [f"{name}:{place}" for place in paths(replace(typed, word=ref)) if place.endswith("/")]
    brought = _brought("maas_magics.architectures")
    return [*registered("maas_magics.core.architectures"), *brought, *held(typed, is_module)]


def kinds_of_columns(typed: Typed) -> list[str]:
    """Columns of the table or file, as ``review=``; behind that, what a column may be declared as."""
    column, equals, _ = typed.word.partition("=")
    if not equals:
        return [f"{name}=" for name in columns_only(typed)]
    package = "maas_magics.core.features.modalities"
    recognised = [name for name, path in _modules(package) if "recognise" in _text(path)]
    return [f"{column}={kind}" for kind in (*recognised, *_brought("maas_magics.modalities"), "column")]


def settings(typed: Typed) -> list[str]:
    """Hyperparameters of the architecture that is named, as ``hidden=``."""
    name = typed.value_of("--model", "-m") or "tabm"
    spec = find_spec("maas_magics.core")
    places = [f"{place}/architectures/{name}.py" for place in (spec.submodule_search_locations or [])] if spec else []
    found: list[str] = []
    for place in filter(os.path.isfile, places):
        tree = ast.parse(_text(place))
        # As `Architecture.defaults` finds them, without importing torch.
        makers = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        keywords = [[arg.arg for arg in node.args.kwonlyargs] for node in makers]
        found += [name for names in keywords if "task" in names for name in names if name != "task"]
    return [f"{name}=" for name in found]


def arguments(flag: str, package: str) -> Callable[[Typed], list[str]]:
    """Arguments of the class that an option names, as ``momentum=``, where its package is imported."""

    def offer(typed: Typed) -> list[str]:
        made = getattr(sys.modules.get(package), typed.value_of(flag) or "", None)
        if not isinstance(made, type):
            return []
        names = list(inspect.signature(made).parameters)
        return [f"{name}=" for name in names if name not in ("params", "optimizer", "lr", "weight_decay", "last_epoch")]

    return offer


def compressors(typed: Typed) -> list[str]:
    """Registered ways to make an export smaller."""
    return [*registered("maas_magics.core.compressors"), *_brought("maas_magics.compressors")]


def formats(typed: Typed) -> list[str]:
    """Registered export formats."""
    return [*registered("maas_magics.core.exporters"), *_brought("maas_magics.exporters")]


def tasks(typed: Typed) -> list[str]:
    """Registered tasks."""
    return [*registered("maas_magics.core.tasks"), *_brought("maas_magics.tasks")]


def _brought(group: str) -> list[str]:
    """What other packages bring by entry points; nothing is imported."""
    return [point.name for point in entry_points(group=group)]


def registered(package: str) -> list[str]:
    """Names of a package's modules that register a thing of their own name; nothing is imported."""
    found = [({name, name.replace("_", "-")}, _text(path)) for name, path in _modules(package)]
    return [name for names, text in found for name in sorted(names) if f'.register("{name}")' in text]


def _modules(package: str) -> list[tuple[str, str]]:
    """Names of a package's modules and their files, in order; nothing is imported."""
    spec = find_spec(package.rpartition(".")[0])
    folder = package.rpartition(".")[2]
    places = [f"{place}/{folder}" for place in (spec.submodule_search_locations or [])] if spec else []
    return sorted((one.name, f"{place}/{one.name}.py") for place in places for one in pkgutil.iter_modules([place]))


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""
