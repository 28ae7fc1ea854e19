"""`%predict` and `%%predict`."""

from __future__ import annotations

from typing import Any

from maas_magics.api.errors import OptionError
from maas_magics.api.requests import PredictRequest
from maas_magics.magics import offers
from maas_magics.magics.common import CSV, MODEL
from maas_magics.magics.options import Command, Option, text, whole
from maas_magics.magics.shell import Magic
from maas_magics.magics.words import Names, Quoted

COMMAND = Command(
    "predict",
    "Ask a model. A table gives a table of the same library, an array an array.",
    (
        MODEL,
        Option(
            ("data",),
            "table or array in a variable, an expression, a path or URL; a text in quotes",
            Names.rows,
            "DATA",
            "?",
            offer=offers.tables,
        ),
        Option(("--top",), "the K likeliest labels with their probabilities", whole, "K"),
        Option(("--proba",), "every label's probability", switch=True),
        Option(("--batch-size",), "rows asked at a time", whole, "N"),
        CSV,
        Option(("--out",), "variable that gets the answers, in place of the output", text, "VAR", offer=offers.names),
    ),
    example='%predict penguins df.head()\n%predict sentiment "I love this"\n'
    "%%predict penguins\nisland,bill_length_mm\nDream,39.5",
    body="As a cell magic, the cell holds the rows: CSV with a header, JSON, or one JSON object a line.",
)


def run(magic: Magic, line: str, cell: str | None) -> Any:
    """Ask, and return the answers."""
    values = COMMAND.parse(line, magic.names)
    name = values["name"]
    magic.session.wait_for(name)
    if cell is not None:
        if "data" in values:
            raise OptionError(
                "The rows stand in the cell; the line names others.", "%predict NAME df, or %%predict NAME"
            )
        values["data"] = magic.session.read_rows(cell, name)
    elif "data" not in values:
        raise OptionError("%predict needs rows.", f"%predict {name} df, or %%predict {name} and rows in the cell")
    elif isinstance(values["data"], Quoted):
        values["data"] = magic.session.read_text(str(values["data"]), name)
    out = values.get("out", "")
    if out and not out.isidentifier():
        raise OptionError(f"--out: {out!r} is no variable name.", "--out answers")
    if out in magic.scope.locals:
        raise OptionError(
            f"--out: {out!r} is a variable of the function, which only the function can set.",
            f"{out} = %predict {name} …",
        )
    answers = magic.session.predict(
        PredictRequest(
            model=name,
            data=values["data"],
            probabilities=True if values.get("proba") else None,
            top=values.get("top", 0),
            batch_size=values.get("batch_size"),
            csv=" ".join(values["csv"]) if "csv" in values else None,
        )
    )
    if out:
        magic.shell.push({out: answers})
        return None
    return answers
