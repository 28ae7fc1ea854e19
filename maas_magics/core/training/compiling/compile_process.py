"""``python -m maas_magics.core.training.compiling.compile_process FOLDER``: a graph becomes machine code.

It has a process of its own, since a compiler takes half a minute and most of it is Python, which would slow a training
in the same process down. The folder holds ``graph.pt``, which the calling process wrote into a folder of its own a
moment before; what comes out is ``step.so``, then ``done.json`` with its digest, or ``failed.txt``.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import torch

from maas_magics.core.compat.compiled import compile_library, load_operators
from maas_magics.core.training.compiling.graph_plain import rebuilt

LIBRARY, DONE, FAILED, GRAPH = "step.so", "done.json", "failed.txt", "graph.pt"


def compile_in(folder: Path) -> None:
    """Compile the graph of a folder."""
    load_operators()
    sent: dict[str, Any] = torch.load(folder / GRAPH, weights_only=True)
    torch.set_num_threads(sent["threads"])
    inputs = tuple(
        torch.empty_strided(shape, stride, dtype=getattr(torch, dtype), device=device)
        for shape, stride, dtype, device in sent["inputs"]
    )
    with torch.no_grad():
        library = compile_library(rebuilt(sent["graph"]), inputs, folder / LIBRARY)
    digest = hashlib.sha256(library.read_bytes()).hexdigest()
    growing = folder / (DONE + ".part")
    growing.write_text(json.dumps({"library": library.name, "digest": digest}))
    os.replace(growing, folder / DONE)


def main(folder: Path) -> None:
    """Compile, and write into the folder how it went."""
    if hasattr(os, "nice"):
        os.nice(5)
    warnings.simplefilter("ignore")
    try:
        compile_in(folder)
    except Exception as error:  # whatever torch or a compiler raises
        lines = str(error).strip().splitlines() or [""]
        (folder / FAILED).write_text(f"{type(error).__name__}: {lines[0][:200]}")
    finally:
        (folder / GRAPH).unlink(missing_ok=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
