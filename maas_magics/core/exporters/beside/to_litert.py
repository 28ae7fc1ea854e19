"""A script for a Python with litert-torch: ``PROGRAM.pt2 FILE.tflite``. It knows nothing of this package."""

from __future__ import annotations

import sys


def main(source: str, file: str) -> None:
    """Convert a program that the caller has just written."""
    import litert_torch
    import torch

    program = torch.export.load(source)
    given = tuple(
        torch.zeros(value.shape, dtype=value.dtype)
        for value in (
            node.meta["val"] for node in program.graph.nodes if node.name in program.graph_signature.user_inputs
        )
    )
    litert_torch.convert(program.module(), given).export(file)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Exception as error:  # the last line is what the user gets to read
        sys.exit("\n" + " ".join(f"{type(error).__name__}: {error}".split())[:200])
