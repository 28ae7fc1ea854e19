"""Which columns reach a network by themselves: those that are declared to, and those that are recognised."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pyarrow as pa

from maas_magics.api.errors import OptionError, did_you_mean
from maas_magics.core.features.fitting import Tell
from maas_magics.core.features.modalities import DECLARED, OPTIONS, modalities, modality_of

PLAIN = "column"
"""What a column may be declared as that is laid beside the others, whatever it looks like."""


def declared(table: pa.Table, kinds: Mapping[str, str], notify: Tell) -> pa.Table:
    """The table with a modality in the metadata of each field that reaches a network by itself.

    Parameters
    ----------
    table : pyarrow.Table
        Features of the training rows.
    kinds : mapping of str to str
        Modalities that were requested, by column, with what is declared besides, as ``"text(clean=html)"``;
        ``"column"`` for one that is laid beside the others.
    notify : callable
        Gets a sentence about every column that was recognised.

    Raises
    ------
    OptionError
        If there is no such column or modality.
    """
    open_kinds = {name: one for name in modalities if (one := modalities.get(name)).recognise is not None}
    for name, kind in kinds.items():
        if name not in table.column_names:
            raise OptionError(f"There is no column {name!r}.", did_you_mean(name, table.column_names))
        kind, options = parted(kind)
        if kind not in (*open_kinds, PLAIN):
            raise OptionError(f"{kind!r} is not a kind of column.", did_you_mean(kind, (*open_kinds, PLAIN)))
        known = open_kinds[kind].options if kind in open_kinds else ()
        unknown = next((option for option in options if option not in known), None)
        if unknown is not None:
            raise OptionError(
                f"A column of {kind} has no option {unknown!r}.",
                did_you_mean(unknown, known) if known else f"--feature {name}={kind}",
            )
    fields = []
    for field in table.schema:
        kind, options = parted(kinds.get(field.name, ""))
        kind = kind or _recognised(field.name, table, open_kinds, notify)
        if kind and kind != PLAIN:
            told = {DECLARED: kind.encode(), **({OPTIONS: json.dumps(options).encode()} if options else {})}
            field = field.with_metadata({**(field.metadata or {}), **told})
        fields.append(field)
    return pa.Table.from_arrays(table.columns, schema=pa.schema(fields, table.schema.metadata))


def parted(kind: str) -> tuple[str, dict[str, str]]:
    """A kind of column, and what is declared besides, of ``"text(clean=html+lower,windows=4)"``.

    Raises
    ------
    OptionError
        If it is not of that form.
    """
    name, opened, inside = kind.partition("(")
    pairs = [part.partition("=") for part in inside.removesuffix(")").split(",")] if opened else []
    if opened and (not inside.endswith(")") or not all(value for _, _, value in pairs)):
        raise OptionError(f"{kind!r} is not of the form KIND(option=value).", "For example: review=text(clean=html)")
    return name.strip(), {option.strip(): value.strip() for option, _, value in pairs}


def has_ports(schema: pa.Schema) -> bool:
    """Whether a column reaches a network by itself."""
    return any(modality_of(field) for field in schema)


def _recognised(name: str, table: pa.Table, kinds: Mapping[str, object], notify: Tell) -> str:
    for kind in kinds:
        recognise = modalities.get(kind).recognise
        why = recognise(table.column(name)) if recognise is not None else ""
        if why:
            notify(f"Column {name!r} {why}: it is taken as {kind}. --feature {name}={PLAIN} lays it beside the others.")
            return kind
    return ""
