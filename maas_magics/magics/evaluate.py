"""`%evaluate`."""

from __future__ import annotations

from typing import Any

from maas_magics.api.errors import OptionError
from maas_magics.api.requests import EvaluateRequest
from maas_magics.magics import offers
from maas_magics.magics.options import Command, Option, commas, text
from maas_magics.magics.shell import Magic
from maas_magics.magics.words import Names

COMMAND = Command(
    "evaluate",
    "Score a model on rows that have the answers.",
    (
        Option(("name",), "NAME, NAME:3 or NAME@alias", metavar="NAME", offer=offers.models),
        Option(
            ("--data", "-d"),
            "table or array in a variable, a path or URL; X y for two arrays",
            Names.data,
            "DATA",
            "+",
            offer=offers.tables,
            required=True,
        ),
        Option(
            ("--target", "-t"),
            "column with the answers; the one it was trained on if left out",
            text,
            "COLUMN",
            offer=offers.columns,
        ),
        Option(("--metrics",), "metrics as a,b: ours, classes of torchmetrics, functions", commas, "NAMES"),
    ),
    example="%evaluate penguins --data held_out",
)


def run(magic: Magic, line: str, cell: str | None) -> Any:
    """Score, and return `Metrics`."""
    values = COMMAND.parse(line, magic.names)
    data = values["data"]
    if len(data) > 2:
        raise OptionError(f"--data takes one table, or two arrays X y; {len(data)} words were given.", "--data df")
    target = values.get("target")
    return magic.session.run(
        EvaluateRequest(
            model=values["name"],
            data=data[0],
            target=data[1] if len(data) == 2 else None if target is None else magic.names.target(target, data[0]),
            metrics=values.get("metrics", ()),
        )
    )
