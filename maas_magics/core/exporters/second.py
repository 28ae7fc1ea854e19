"""Asks an ONNX file in a second runtime, where the first is known to hide errors: ONNX's own reference, else OpenVINO.

ONNX Runtime computes some graphs of halves in floats on a processor, so that what another machine would lose does not
show. ``python -m maas_magics.core.exporters.second RUNTIME FILE VERSION WORK`` reads ``WORK/inputs.npz`` and writes
``WORK/second.npz``. Not an exporter: it registers nothing.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from maas_magics.api.child import python
from maas_magics.api.errors import ExportError
from maas_magics.core.data.arrow import Array
from maas_magics.core.tasks.base import Task

ROWS = 32
"""Rows that are asked: the reference is made to be right, not to be quick."""

SECONDS = 90

ACCEPTED = 1e-3
"""Difference of the two runtimes that is none of rounding."""

RUNTIMES = {"reference": "the ONNX reference", "openvino": "OpenVINO"}


def second_opinion(file: Path, version: Path, raw: Sequence[Array], first: Array, task: Task, work: Path) -> str:
    """A sentence about how a second runtime answers some rows.

    Parameters
    ----------
    file : Path
        ONNX file.
    version : Path
        Folder of the model's own files.
    raw : sequence of ndarray, shape (n, …)
        Inputs of the file.
    first : ndarray, shape (n, …)
        What the first runtime answered.
    task : Task
        What the model answers.
    work : Path
        Folder for what is handed over.

    Raises
    ------
    ExportError
        If the two differ.
    """
    some = [values[:ROWS] for values in raw]
    given: dict[str, Any] = {
        str(i): values.astype(str) if values.dtype == object else values for i, values in enumerate(some)
    }
    np.savez(work / "inputs.npz", **given)
    why = "no second runtime reads it"
    for runtime, called in RUNTIMES.items():
        if runtime == "openvino" and find_spec("openvino") is None:
            continue
        command = python("maas_magics.core.exporters.second", runtime, str(file), str(version), str(work))
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        except subprocess.TimeoutExpired:
            why = f"{called} gave no answer in {SECONDS} s"
            continue
        if done.returncode:
            why = f"{called} does not run it"
            continue
        with np.load(work / "second.npz") as found:
            apart = task.difference(first[: len(some[0])], found["answers"])
        if not apart <= ACCEPTED:
            raise ExportError(
                f"The file answers differently in ONNX Runtime and in {called}, by up to {apart:.1e}. "
                "Nothing was published.",
                "Export it without --compress.",
            )
        return f"{called} agrees on {len(some[0])} rows, max |Δ| {apart:.1e}"
    return f"not verified: {why}"


def main(runtime: str, file: str, version: str, work: str) -> None:
    """Answer the rows of ``work/inputs.npz``."""
    from maas_magics.core.store.manifest import read_manifest

    with np.load(Path(work) / "inputs.npz") as given:
        raw = [
            given[name].astype(object) if given[name].dtype.kind == "U" else given[name]
            for name in sorted(given, key=int)
        ]
    outputs = _reference(file, raw) if runtime == "reference" else _openvino(file, raw)
    np.savez(Path(work) / "second.npz", answers=read_manifest(Path(version)).answers.decoded_from(outputs))


def _reference(file: str, raw: Sequence[Array]) -> Mapping[str, Array]:
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(file)
    found = evaluator.run(None, dict(zip(evaluator.input_names, raw, strict=True)))
    return dict(zip(evaluator.output_names, map(np.asarray, found), strict=True))


def _openvino(file: str, raw: Sequence[Array]) -> Mapping[str, Array]:
    import openvino

    compiled = openvino.compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled(dict(enumerate(raw)))
    return {output.get_any_name(): np.asarray(found[output]) for output in compiled.outputs}


if __name__ == "__main__":
    main(*sys.argv[1:])
