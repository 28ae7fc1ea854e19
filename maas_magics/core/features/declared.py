"""Which columns reach a network by themselves: those that are declared to, and those that are recognised."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from maas_magics.api.errors import OptionError, did_you_mean
from maas_magics.core.data.arrow import as_text, is_text
from maas_magics.core.features.fitting import Tell
from maas_magics.core.features.modalities import DECLARED, OPTIONS, modalities, modality_of

PLAIN = "column"
"""What a column may be declared as that is laid beside the others, whatever it looks like."""


READ = ("text", "words", "spans")
"""Kinds of columns that a network of texts reads."""

LOOKED_AT = 2_000
"""Rows that are looked at."""

SPACED = 0.5
"""Share of the rows with several words from which a column beside other text is what a network of texts reads."""


def declared(table: pa.Table, kinds: Mapping[str, str], notify: Tell, *, texts: bool = False) -> pa.Table:
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
    texts : bool
        Whether the network is one that reads texts: where no column is recognised, those that may be some are taken.

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
    found = {name: parted(kinds.get(name, "")) for name in table.column_names}
    taken = {name: kind or _recognised(name, table, open_kinds, notify) for name, (kind, _) in found.items()}
    if texts and not any(kind in READ for kind in taken.values()):
        for name in _likely(table, [name for name, kind in taken.items() if not kind]):
            notify(f"Column {name!r} is taken as text, for the network reads it. --feature {name}={PLAIN} does not.")
            taken[name] = "text"
    fields = []
    for field in table.schema:
        kind, options = taken[field.name], found[field.name][1]
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


def _likely(table: pa.Table, names: list[str]) -> list[str]:
    """Columns of text: the only one, or those most of whose values are several words."""
    names = [name for name in names if is_text(table.schema.field(name).type)]
    if len(names) < 2:
        return names
    words = {name: as_text(table.column(name).slice(0, LOOKED_AT)).drop_null() for name in names}
    spaced = {name: pc.mean(pc.match_substring_regex(each, r"\S\s+\S")).as_py() for name, each in words.items()}
    return [name for name in names if (spaced[name] or 0.0) >= SPACED]


def _recognised(name: str, table: pa.Table, kinds: Mapping[str, object], notify: Tell) -> str:
    for kind in kinds:
        recognise = modalities.get(kind).recognise
        why = recognise(table.column(name)) if recognise is not None else ""
        if why:
            notify(f"Column {name!r} {why}: it is taken as {kind}. --feature {name}={PLAIN} lays it beside the others.")
            return kind
    return ""
