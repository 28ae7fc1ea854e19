"""Everything about an option, declared once: it stands with the type of the field that holds the option's value.

The parser of a magic, its help and completion, the signature and the checks of a function, and the JSON schema of a
request are made from the fields of a struct and what stands with them.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Union

import msgspec


class Option(msgspec.Struct, frozen=True, kw_only=True):
    """An option, besides its type.

    Attributes
    ----------
    help : str
        One line.
    metavar : str
        What stands in the help for its value.
    flags : tuple of str
        How it is typed on a line; after the name of its field where there are none.
    typed : bool
        Whether it is typed on the line of a magic at all.
    offer : str or tuple of str
        Values to complete, or the name of what finds them.
    reads : str
        Name of what reads a word; chosen by the type of the field where empty.
    many : {"", "+", "?"}
        How many words it takes; chosen by the type of the field where empty.
    listed : bool
        Whether one word holds several values, between commas.
    listing : bool
        Whether the help lists the values that are offered.
    takes : Any
        Type that a function takes, where it is another one than the field's.
    """

    help: str
    metavar: str = ""
    flags: tuple[str, ...] = ()
    typed: bool = True
    offer: str | tuple[str, ...] = ()
    reads: str = ""
    many: Literal["", "+", "?"] = ""
    listed: bool = False
    listing: bool = False
    takes: Any = None


class Declared(msgspec.Struct, frozen=True):
    """A field of a struct with what stands with it.

    Attributes
    ----------
    name : str
    type : Any
        Without what stands with it.
    default : Any
        `msgspec.NODEFAULT` for one that is required.
    option : Option or None
    """

    name: str
    type: Any
    default: Any
    option: Option | None

    @property
    def flags(self) -> tuple[str, ...]:
        """How it is typed on a line: ``("--batch-size",)``."""
        said = self.option.flags if self.option is not None else ()
        return said or ("--" + self.name.replace("_", "-"),)

    @property
    def needed(self) -> bool:
        """Whether there is no default."""
        return self.default is msgspec.NODEFAULT

    @property
    def accepted(self) -> Any:
        """Type that a function takes: any mapping for a dict, any sequence, or a single text, for a tuple."""
        if self.option is not None and self.option.takes is not None:
            return self.option.takes
        origin, inner = typing.get_origin(self.type), typing.get_args(self.type)
        if origin is dict:
            return Mapping[inner[0], inner[1]] | None  # type: ignore[valid-type]
        if origin is tuple:
            return str | Sequence[inner[0]]  # type: ignore[valid-type]
        return self.type

    @property
    def unsaid(self) -> Any:
        """Default of a function's parameter: None for a dict, which could be changed."""
        return None if isinstance(self.default, dict) else self.default

    def as_field(self, value: Any) -> Any:
        """Argument of a function, as the field holds it.

        Parameters
        ----------
        value : Any
            What the caller gave.
        """
        origin = typing.get_origin(self.type)
        if origin is dict:
            return dict(value or {})
        if origin is tuple:
            return (value,) if isinstance(value, str) else tuple(value)
        return value


def option(help: str, metavar: str = "", *flags: str, **more: Any) -> msgspec.Meta:
    """Declaration of an option, to stand with the type of a field in ``Annotated``; see `Option`.

    Parameters
    ----------
    help : str
        What the option does, for ``--help``.
    metavar : str
        Word for its value in ``--help``.
    *flags : str
        Flags of the line, where they are not the field's name with dashes.
    **more : Any
        Other attributes of `Option`.
    """
    return msgspec.Meta(description=help, extra={"option": Option(help=help, metavar=metavar, flags=flags, **more)})


def declared_fields(kind: type[Any]) -> dict[str, Declared]:
    """Fields of a struct by name, in order.

    Parameters
    ----------
    kind : type of msgspec.Struct
        A struct, such as `TrainRequest`.
    """
    found = {}
    for field in msgspec.structs.fields(kind):
        of, default, said = field.type, field.default, None
        if typing.get_origin(of) is typing.Annotated:
            metas = [meta for meta in of.__metadata__ if isinstance(meta, msgspec.Meta) and meta.extra]
            of, said = of.__origin__, metas[0].extra["option"] if metas and metas[0].extra else None
        if field.default_factory is not msgspec.NODEFAULT:
            default = field.default_factory()
        found[field.name] = Declared(field.name, of, default, said)
    return found


def is_union(hint: Any) -> bool:
    """Whether a type is one of several.

    Parameters
    ----------
    hint : Any
        A type hint.
    """
    return typing.get_origin(hint) in (Union, types.UnionType)


def without_none(hint: Any) -> Any:
    """A type without None.

    Parameters
    ----------
    hint : Any
        A type hint.
    """
    if not is_union(hint):
        return hint
    return Union[tuple(one for one in typing.get_args(hint) if one is not type(None))]  # noqa: UP007


def attributes(*kinds: type) -> str:
    """The Attributes sections of some structs' docstrings, one after the other.

    Parameters
    ----------
    *kinds : type
        Structs with NumPy docstrings.
    """
    return "\n".join((inspect.getdoc(kind) or "").partition("Attributes\n----------\n")[2].strip() for kind in kinds)
