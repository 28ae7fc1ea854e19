"""`%serve`."""

from __future__ import annotations

from typing import Any

from maas_magics.api.errors import OptionError
from maas_magics.magics import completions as offers
from maas_magics.magics.options import Command, MagicOption, text
from maas_magics.magics.shell import Magic

COMMAND = Command(
    "serve",
    "Put a model behind an endpoint of this machine's service, for any client of the Open Inference Protocol.",
    (
        MagicOption(("name",), "NAME, NAME:3 or NAME@alias", metavar="NAME", many="?", offer=offers.models),
        MagicOption(
            ("--kv-memory",),
            "what the keys and values of a model that writes may take: so many texts are written at a time",
            text,
            "512MB",
        ),
        MagicOption(("--stop",), "close the model, or the whole service where no model is named", switch=True),
    ),
    example="%serve penguins\n%serve writer --kv-memory 512MB\n%serve --stop",
)


def run(magic: Magic, line: str, cell: str | None) -> Any:
    """Serve, and return the `Endpoint`."""
    values = COMMAND.parse(line, magic.names)
    name = values.get("name")
    if values.get("stop"):
        magic.show(magic.session.stop_serving(name))
        return None
    if name is None:
        raise OptionError("%serve needs a model.", "%serve NAME, or %serve --stop")
    return magic.session.serve(name, values.get("kv_memory"))
