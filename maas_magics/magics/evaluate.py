"""`%evaluate`."""

from __future__ import annotations

from typing import Any

from maas_magics.api.errors import OptionError
from maas_magics.api.requests import EvaluateRequest
from maas_magics.magics.declared import options_of
from maas_magics.magics.options import Command
from maas_magics.magics.shell import Magic

COMMAND = Command(
    "evaluate",
    "Score a model on rows that have the answers.",
    options_of(EvaluateRequest),
    example="%evaluate penguins --data held_out",
)


def run(magic: Magic, line: str, cell: str | None) -> Any:
    """Score, and return `Metrics`."""
    values = COMMAND.parse(line, magic.names)
    data = values["data"]
    if len(data) > 2:
        raise OptionError(f"--data takes one table, or two arrays X y; {len(data)} words were given.", "--data df")
    if len(data) == 2:
        values["target"] = data[1]
    elif "target" in values:
        csv = values.get("csv")
        values["target"] = magic.names.target(
            values["target"], data[0], lambda table: magic.session.columns_of(table, csv)
        )
    return magic.session.run(EvaluateRequest(**values | {"data": data[0]}))
