"""`%evaluate`."""

from __future__ import annotations

from typing import Any

from maas_magics.api.errors import OptionError
from maas_magics.api.requests import EvaluateRequest
from maas_magics.magics import offers
from maas_magics.magics.common import CSV, DATA, METRICS, MODEL
from maas_magics.magics.options import Command, Option, typed
from maas_magics.magics.shell import Magic

COMMAND = Command(
    "evaluate",
    "Score a model on rows that have the answers.",
    (
        MODEL,
        DATA,
        Option(
            ("--target", "-t"),
            "column with the answers; the one it was trained on if left out",
            typed,
            "COLUMN",
            offer=offers.columns,
            listed=True,
        ),
        METRICS,
        CSV,
    ),
    example="%evaluate penguins --data held_out",
)


def run(magic: Magic, line: str, cell: str | None) -> Any:
    """Score, and return `Metrics`."""
    values = COMMAND.parse(line, magic.names)
    data = values["data"]
    if len(data) > 2:
        raise OptionError(f"--data takes one table, or two arrays X y; {len(data)} words were given.", "--data df")
    target, csv = values.get("target"), " ".join(values["csv"]) if "csv" in values else None
    if len(data) == 2:
        target = data[1]
    elif target is not None:
        target = magic.names.target(target, data[0], lambda table: magic.session.columns_of(table, csv))
    return magic.session.run(
        EvaluateRequest(
            model=values["name"],
            data=data[0],
            target=target,
            metrics=values.get("metrics", ()),
            csv=csv,
        )
    )
