"""What a report says of an exported file beside how it answers. Not an exporter: it registers nothing."""

from __future__ import annotations

from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from maas_magics.api.results import Artifact
from maas_magics.core.data.arrow import Array
from maas_magics.core.seal.files import contents

LIBRARIES = ("torch", "onnx", "onnxruntime")
"""Those whose versions are told of every export, beside the one that a format is named after."""


def with_facts(made: Artifact, file: Path) -> Artifact:
    """The report with versions of libraries; of an ONNX file, with its operators.

    Parameters
    ----------
    made : Artifact
        What was found so far.
    file : Path
        The model file.
    """
    known = {name: _version(name) for name in (*LIBRARIES, made.format)} | made.versions
    known = {name: number for name, number in known.items() if number}
    if file.suffix != ".onnx":
        return msgspec.structs.replace(made, versions=known, opset={}, operators={})
    import onnx

    model = onnx.load_from_string(contents(file))
    return msgspec.structs.replace(
        made,
        versions=known,
        opset={entry.domain: entry.version for entry in model.opset_import},
        operators=dict(sorted(_counted(model.graph).items())),
    )


def mean_difference(before: Array, after: Array, largest: float) -> float | None:
    """Mean difference of two sets of answers, in the units of the largest.

    Parameters
    ----------
    before, after : ndarray, shape (n, …)
        Decoded answers.
    largest : float
        Their largest difference, as the task has it.
    """
    if before.shape != after.shape or not before.size or not np.isfinite(largest):
        return None
    apart = np.abs(before.astype(np.float64) - after.astype(np.float64))
    most = float(np.nanmax(apart, initial=0.0))
    return largest * float(np.nanmean(apart)) / most if most else 0.0


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _counted(graph: Any) -> Counter[str]:
    found: Counter[str] = Counter()
    for node in graph.node:
        found[node.op_type] += 1
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                found += _counted(inner)
    return found
