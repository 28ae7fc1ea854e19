"""`%predict` and `%%predict`."""

from __future__ import annotations

from typing import Any

from maas_magics.api.errors import OptionError
from maas_magics.api.requests import PredictRequest
from maas_magics.api.verbs import VERBS
from maas_magics.magics import completions as offers
from maas_magics.magics.declared import options_of
from maas_magics.magics.options import Command, MagicOption, text
from maas_magics.magics.shell import Magic
from maas_magics.magics.words import Quoted, uncommented

COMMAND = Command(
    "predict",
    VERBS["predict"].summary,
    (
        *options_of(PredictRequest),
        MagicOption(
            ("--out",), "variable that gets the answers, in place of the output", text, "VAR", offer=offers.names
        ),
    ),
    example='%predict penguins df.head()\n%predict sentiment "I love this"\n'
    '%predict digits "three left of nine" --seed 1\n'
    "%%predict penguins\nisland,bill_length_mm\nDream,39.5",
    body="As a cell magic, the cell holds the rows: CSV with a header, JSON, or one JSON object a line.",
)


def run(magic: Magic, line: str, cell: str | None) -> Any:
    """Predict, and return the answers."""
    values = COMMAND.parse(line, magic.names)
    name, out = values["model"], values.pop("out", "")
    magic.session.wait_for(name)
    if cell is not None:
        if "data" in values:
            raise OptionError("The rows are in the cell; the line names others.", "%predict NAME df, or %%predict NAME")
        values["data"] = magic.session.read_rows(cell, name)
    elif "data" not in values:
        raise OptionError("%predict needs rows.", f"%predict {name} df, or %%predict {name} and rows in the cell")
    elif isinstance(values["data"], Quoted):
        text = str(values["data"])
        draws = magic.session.backend.models.get(name).draws
        values["data"] = [text] if draws else magic.session.read_text(text, name)
    if out and not out.isidentifier():
        raise OptionError(f"--out: {out!r} is not a variable name.", "--out answers")
    if out in magic.scope.locals:
        raise OptionError(
            f"--out: {out!r} is a variable of the function, which only the function can set.",
            f"{out} = %predict {name} …",
        )
    quiet = bool(out) or uncommented(line).endswith(";")
    show = None if quiet else lambda found: magic.show(repr(found), found._repr_html_())
    request = PredictRequest(**values)
    answers = magic.session.predict(request, show)
    gallery = None if quiet else magic.session.gallery(request, answers, only_files=True)
    if gallery is not None:
        magic.show(repr(gallery), gallery._repr_html_())
    if out:
        magic.shell.push({out: answers})
        return None
    return answers
