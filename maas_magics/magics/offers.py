"""Values that completion offers. Imports nothing heavy: a Tab must answer at once."""

from __future__ import annotations

import pkgutil
from importlib.util import find_spec

from maas_magics.magics.options import Typed
from maas_magics.magics.words import column_names, is_module


def models(typed: Typed) -> list[str]:
    """Names of the models in the store."""
    return typed.models()


def tables(typed: Typed) -> list[str]:
    """Variables that hold tables or arrays."""
    return [
        name
        for name, value in typed.names.variables.items()
        if not name.startswith("_")
        and name not in ("In", "Out")
        and (column_names(value) or hasattr(value, "__array__"))
        and not isinstance(value, type)
    ]


def columns(typed: Typed) -> list[str]:
    """Columns of the table that ``--data`` names, or variables that hold arrays."""
    word = typed.value_of("--data", "-d")
    found = column_names(typed.names.variables.get(word)) if word else []
    return found or tables(typed)


def architectures(typed: Typed) -> list[str]:
    """Registered architectures, and variables that hold modules."""
    own = [name for name, value in typed.names.variables.items() if not name.startswith("_") and is_module(value)]
    return files("maas_magics.core.architectures") + own


def formats(typed: Typed) -> list[str]:
    """Registered export formats."""
    return [name for name in files("maas_magics.core.exporters") if name not in ("check", "examples", "export")]


def files(package: str) -> list[str]:
    """Names of a package's modules, each of which registers a thing of its own name; nothing is imported."""
    spec = find_spec(package.rpartition(".")[0])
    folder = package.rpartition(".")[2]
    places = [f"{place}/{folder}" for place in (spec.submodule_search_locations or [])] if spec else []
    return sorted(module.name for module in pkgutil.iter_modules(places))
