"""A magic that a verb alone makes: its options are the fields of its request."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from maas_magics.api.errors import OptionError
from maas_magics.api.verbs import brought, find_verb
from maas_magics.magics.declared import options_of
from maas_magics.magics.options import Command
from maas_magics.magics.shell import Magic


class VerbMagic:
    """The magic of a verb.

    Parameters
    ----------
    name : str
        Of the verb, which is looked for when the magic is first used.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    @cached_property
    def COMMAND(self) -> Command:  # noqa: N802
        """Its options."""
        verb = find_verb(self.name)
        return Command(self.name, verb.summary, options_of(verb.request), example=verb.example)

    def run(self, magic: Magic, line: str, cell: str | None) -> Any:
        """Run the request of a line, and return what comes back.

        Parameters
        ----------
        magic : Magic
            Where the magic stands.
        line : str
            Its line.
        cell : str or None
            Not taken.
        """
        values = self.COMMAND.parse(line, magic.names)
        if isinstance(values.get("data"), list):
            values |= rows_of(magic, values, any(option.key == "target" for option in self.COMMAND.options))
        return magic.session.run(find_verb(self.name).request(**values))


def rows_of(magic: Magic, values: dict[str, Any], targeted: bool) -> dict[str, Any]:
    """Data and target of a line: a table, its target among the columns, or two arrays."""
    data = values["data"]
    if len(data) > (2 if targeted else 1):
        what = "one table, or two arrays X y" if targeted else "one table"
        raise OptionError(f"--data takes {what}; {len(data)} words were given.", "--data df")
    if len(data) == 2:
        return {"data": data[0], "target": data[1]}
    if "target" not in values:
        return {"data": data[0]}
    csv = values.get("csv")
    target = magic.names.target(values["target"], data[0], lambda table: magic.session.columns_of(table, csv))
    return {"data": data[0], "target": target}


def brought_magics() -> dict[str, VerbMagic]:
    """Magics of the verbs that other packages bring, by name."""
    return {name: VerbMagic(name) for name in brought()}
