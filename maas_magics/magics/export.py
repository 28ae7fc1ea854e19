"""`%export`."""

from __future__ import annotations

from typing import Any

from maas_magics.api.requests import ExportRequest
from maas_magics.magics import offers
from maas_magics.magics.common import MODEL
from maas_magics.magics.options import Command, Option, real, text
from maas_magics.magics.shell import Magic

COMMAND = Command(
    "export",
    "Convert a model, verify the file against the model on held-out rows, and pack it.",
    (
        MODEL,
        Option(("--format", "-f"), "onnx, pt2 or safetensors", text, "FORMAT", offer=offers.formats),
        Option(("--tolerance",), "largest difference of any output that is accepted (1e-4)", real, "D"),
        Option(("--out", "-o"), "folder or file that gets a copy", text, "PATH", offer=offers.files),
    ),
    example="%export penguins\n%export penguins --format pt2 --out penguins.pt2",
)


def run(magic: Magic, line: str, cell: str | None) -> Any:
    """Export, and return the verified `Artifact`."""
    values = COMMAND.parse(line, magic.names)
    return magic.session.run(ExportRequest(model=values.pop("name"), **values))
