"""Arguments of public functions, checked against what the function itself declares."""

from __future__ import annotations

import functools
import inspect
import numbers
import textwrap
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from typing import Any, Literal, TypeVar

import msgspec

from maas_magics.api.errors import OptionError, did_you_mean
from maas_magics.api.hints import meant
from maas_magics.api.options import attributes, declared_fields, is_union

F = TypeVar("F", bound=Callable[..., Any])
R = TypeVar("R")

Take = Callable[[Any], Any]
"""From a value to what the function gets; raises `TypeError` for one that is of another kind."""

PLAIN = {int: "a whole number", float: "a number", str: "a text", bool: "True or False", type(None): "None"}


def declared(function: F) -> F:
    """A function that refuses arguments of another kind than it declares, in two lines.

    Whole numbers and numbers of numpy become Python's own.

    Parameters
    ----------
    function : callable
        All of its parameters have a type hint.
    """
    parameters = inspect.signature(function).parameters
    names = [name for name, one in parameters.items() if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    rest = next((name for name, one in parameters.items() if one.kind is one.VAR_POSITIONAL), None)
    needed = [name for name in names if parameters[name].default is inspect.Parameter.empty]
    by_name = {name for name, one in parameters.items() if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)}
    anything = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    hints: dict[str, tuple[Any, Take]] = {}

    def taken(name: str | None, value: Any) -> Any:
        if not hints:
            found = typing.get_type_hints(_declaring(function))
            hints.update({name: (hint, _taking(hint)) for name, hint in found.items()})
        if name is None or name not in hints:
            return value
        hint, take = hints[name]
        if hint is Any or type(value) is hint:
            return value
        try:
            return take(value)
        except TypeError as error:
            raise _refusal(name, hint, value, *error.args) from None

    def unbound(given: tuple[Any, ...], named: Mapping[str, Any]) -> OptionError | None:
        """What Python could not bind: an argument that there is not, one that is given twice, one that is left out."""
        called = f"{function.__name__}({', '.join(needed)}{', …' if len(parameters) > len(needed) else ''})"
        for name in named:
            if name not in by_name and not anything:
                said = f"{function.__name__} has no argument {name!r}."
                return OptionError(said, meant(name, by_name) or did_you_mean("", by_name))
            if name in by_name and name in names[: len(given)]:
                return OptionError(f"{function.__name__}: {name} is given twice.", called)
        if len(given) > len(names) and rest is None:
            most = f"{len(names)} argument{'' if len(names) == 1 else 's'} without a name"
            more = [name for name in parameters if name not in names]
            told = f"{', '.join(f'{name}=…' for name in more[:3])} are given by name." if more else called
            return OptionError(f"{function.__name__} takes {most}; {len(given)} were given.", told)
        absent = [name for name in needed[len(given) :] if name not in named or name not in by_name]
        return OptionError(f"{function.__name__} needs {' and '.join(absent)}.", called) if absent else None

    @functools.wraps(function)
    def checked(*given: Any, **named: Any) -> Any:
        if (
            len(given) < len(needed)
            or (len(given) > len(names) and rest is None)
            or not named.keys() <= by_name
            or not named.keys().isdisjoint(names[: len(given)])
        ) and (wrong := unbound(given, named)) is not None:
            raise wrong
        if len(given) <= len(names):
            known: Any = map(taken, names, given)
        else:
            known = [taken(names[i] if i < len(names) else rest, value) for i, value in enumerate(given)]
        for name, value in named.items():
            named[name] = taken(name, value)
        return function(*known, **named)

    return typing.cast(F, checked)


def taking(
    *kinds: type[msgspec.Struct], places: Sequence[str]
) -> Callable[[Callable[[dict[str, Any]], R]], Callable[..., R]]:
    """Make a function of named values one that takes the options of some structs, as their fields declare them.

    Parameters
    ----------
    *kinds : type of msgspec.Struct
        Structs whose fields are declared by `maas_magics.api.options.option`.
    places : sequence of str
        Options that may be given without a name, in order.
    """
    fields = {
        name: field for kind in kinds for name, field in declared_fields(kind).items() if field.option is not None
    }
    fields = {name: fields[name] for name in (*places, *fields)}
    empty, by_name = inspect.Parameter.empty, inspect.Parameter.KEYWORD_ONLY
    parameters = [
        inspect.Parameter(
            name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD if name in places else by_name,
            default=empty if field.needed else field.unsaid,
            annotation=field.accepted,
        )
        for name, field in fields.items()
    ]

    def made(function: Callable[[dict[str, Any]], R]) -> Callable[..., R]:
        @functools.wraps(function)
        def taken(*given: Any, **named: Any) -> R:
            said = dict(zip(places, given, strict=False)) | named
            return function({name: fields[name].as_field(value) for name, value in said.items()})

        returned = function.__annotations__.get("return")
        taken.__signature__ = inspect.Signature(parameters, return_annotation=returned)  # type: ignore[attr-defined]
        taken.__annotations__ = {name: field.accepted for name, field in fields.items()} | {"return": returned}
        told = textwrap.indent(attributes(*kinds), "    ").strip()
        taken.__doc__ = (function.__doc__ or "").replace("{parameters}", told)
        return taken

    return made


def _declaring(function: Callable[..., Any]) -> Any:
    """Something with the annotations of a function's parameters, and not that of what it returns."""
    holder: Any = types.FunctionType((lambda: None).__code__, function.__globals__)
    holder.__annotations__ = {name: hint for name, hint in function.__annotations__.items() if name != "return"}
    return holder


def _taking(hint: Any) -> Take:
    """What takes values of a type."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return lambda value: value
    if is_union(hint):
        kinds = [_taking(one) for one in sorted(inner, key=lambda one: one is float)]
        return functools.partial(_one_of, kinds)
    if origin is Literal:
        return functools.partial(_literal, inner)
    if hint in PLAIN:
        return functools.partial(_plain, hint)
    if origin is Callable or origin is typing.get_origin(Callable[..., Any]) or hint is Callable:
        return _callable
    if typing.Protocol in getattr(hint, "__mro__", ()) and "__call__" in vars(hint):
        return _callable
    kind = origin or hint
    if isinstance(kind, type) and issubclass(kind, Mapping):
        return functools.partial(_mapping, *(_taking(one) for one in inner or (Any, Any)))
    if isinstance(kind, type) and issubclass(kind, Sequence):
        return functools.partial(_sequence, _taking(inner[0] if inner else Any))
    return lambda value: value


def _plain(kind: type, value: Any) -> Any:
    if type(value) is kind:
        return value
    if kind is str:
        if isinstance(value, str):
            return str(value)
        if isinstance(value, PurePath):
            return str(value)
    elif kind is bool:
        if type(value).__module__ == "numpy" and type(value).__name__.startswith("bool"):
            return bool(value)
    elif isinstance(value, bool) or type(value).__name__.startswith("bool"):
        raise TypeError(value)
    elif kind is int:
        if isinstance(value, numbers.Integral):
            return int(value)
    elif kind is float and isinstance(value, numbers.Real):
        return int(value) if isinstance(value, numbers.Integral) else float(value)
    raise TypeError(value)


def _one_of(kinds: Sequence[Take], value: Any) -> Any:
    wrong = value
    for kind in kinds:
        try:
            return kind(value)
        except TypeError as error:
            wrong = error.args[0] if error.args[0] is not value else wrong
    raise TypeError(wrong)


def _literal(choices: Sequence[Any], value: Any) -> Any:
    if isinstance(value, str) and value in choices:
        return str(value)
    raise TypeError(value)


def _callable(value: Any) -> Any:
    if not callable(value):
        raise TypeError(value)
    return value


def _mapping(key: Take, item: Take, value: Any) -> Any:
    if not isinstance(value, Mapping):
        raise TypeError(value)
    return {key(name): item(one) for name, one in value.items()}


def _sequence(item: Take, value: Any) -> Any:
    """Anything that has a length and is gone through in order, no text and no mapping; of functions, also one alone."""
    if item is _callable and callable(value) and not isinstance(value, type):
        return [value]
    if isinstance(value, (str, bytes, Mapping, set, frozenset, type)):
        raise TypeError(value)
    if not (hasattr(value, "__len__") and hasattr(value, "__iter__")):
        raise TypeError(value)
    try:
        every = list(value)
    except Exception:
        raise TypeError(value) from None
    return [item(one) for one in every]


def _refusal(name: str, hint: Any, value: Any, wrong: Any) -> OptionError:
    """Error of an argument; ``wrong`` is what in it is of another kind."""
    parts = [part for part in typing.get_args(hint) if part is not type(None)] if is_union(hint) else [hint]
    choices = [one for part in parts if typing.get_origin(part) is Literal for one in typing.get_args(part)]
    if isinstance(value, str) and all(typing.get_origin(part) is Literal for part in parts):
        return OptionError(f"{name}: there is no {value[:80]!r}.", did_you_mean(value, choices))
    wanted = _words(hint)
    told = "a number" if isinstance(value, str) and "number" in wanted else wanted
    holds = f"holds {_shown(wrong)}" if wrong is not value else f"is {_shown(value)}"
    return OptionError(f"{name.replace('_', ' ')} {holds}; {told} was expected.", f"{name}=… takes {wanted}.")


def _shown(value: Any) -> str:
    kind = type(value).__name__
    if isinstance(value, (str, int, float, bytes, type(None))):
        return repr(value) if len(repr(value)) <= 60 else f"of type {kind}"
    return f"of type {kind}"


def _words(hint: Any) -> str:
    """A type for display."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint in PLAIN:
        return PLAIN[hint]
    if is_union(hint):
        words = list(dict.fromkeys(_words(one) for one in inner if one is not type(None)))
        return " or ".join(words)
    if origin is Literal:
        return " or ".join(repr(one) for one in inner)
    kind = origin or hint
    if isinstance(kind, type) and issubclass(kind, Mapping):
        return "a dict" + {float: " of numbers", int: " of whole numbers"}.get(inner[1] if inner else Any, "")
    if isinstance(kind, type) and issubclass(kind, Sequence):
        several = {str: "texts", float: "numbers"}.get(inner[0] if inner else Any, "values")
        return f"a list of {several}"
    return "a function" if kind is typing.get_origin(Callable[..., Any]) else "another value"
