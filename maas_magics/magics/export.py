"""`%export`."""

from __future__ import annotations

from typing import Any

from maas_magics.api.requests import ExportRequest
from maas_magics.magics.declared import options_of
from maas_magics.magics.options import Command
from maas_magics.magics.shell import Magic

COMMAND = Command(
    "export",
    "Convert a model, verify the file against the model on held-out rows, and pack it.",
    options_of(ExportRequest),
    example="%export penguins\n%export penguins --format pt2 --out penguins.pt2",
)


def run(magic: Magic, line: str, cell: str | None) -> Any:
    """Export, and return the verified `Artifact`."""
    return magic.session.run(ExportRequest(**COMMAND.parse(line, magic.names)))
