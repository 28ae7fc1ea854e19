"""Asks an ONNX file in a second runtime, where the first is known to hide errors: ONNX's own reference, else OpenVINO.

ONNX Runtime computes some graphs of halves in floats on a processor, so that what another machine would lose does not
show. ``python -m maas_magics.core.exporters.second RUNTIME FILE VERSION`` reads the rows from its input, and writes the
answers to its output. Not an exporter: it registers nothing.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from maas_magics.api.child import python
from maas_magics.api.errors import ExportError
from maas_magics.core.data.arrow import Array
from maas_magics.core.exporters import handed
from maas_magics.core.seal.files import contents, is_sealed
from maas_magics.core.tasks.base import Task

ROWS = 32
"""Rows that are asked: the reference is made to be right, not to be quick."""

SECONDS = 90

ACCEPTED = 1e-3
"""Difference of the two runtimes that is none of rounding."""

Run = Callable[[Sequence[Array]], Mapping[str, Array]]

RUNTIMES = {"reference": "the ONNX reference", "openvino": "OpenVINO"}


def second_opinion(file: Path, version: Path, raw: Sequence[Array], task: Task) -> str:
    """A sentence about how a second runtime answers some rows.

    Parameters
    ----------
    file : Path
        ONNX file.
    version : Path
        Folder of the model's own files.
    raw : sequence of ndarray, shape (n, …)
        Inputs of the file.
    task : Task
        What the model answers.

    Raises
    ------
    ExportError
        If the two differ.
    """
    some = [values[:ROWS] for values in raw]
    why = "no second runtime reads it"
    for runtime, called in RUNTIMES.items():
        if runtime == "openvino" and find_spec("openvino") is None:
            continue
        command = python("maas_magics.core.exporters.second", runtime, str(file), str(version))
        try:
            with handed.started(command, SECONDS) as ask:
                code, answered, _ = ask(some)
        except subprocess.TimeoutExpired:
            why = f"{called} gave no answer in {SECONDS} s"
            continue
        if code:
            why = f"{called} does not run it"
            continue
        found = handed.read(answered)
        apart = task.difference(found["first"], found["answers"])
        if not apart <= ACCEPTED:
            raise ExportError(
                f"The file answers differently in ONNX Runtime and in {called}, by up to {apart:.1e}. "
                "Nothing was published.",
                "Export it without --compress.",
            )
        return f"{called} agrees on {len(some[0])} rows, max |Δ| {apart:.1e}"
    return f"not verified: {why}"


def main(runtime: str, file: str, version: str) -> None:
    """Answer the rows of the input in both runtimes, in the same batches: integers are scaled by the batch."""
    from maas_magics.core.exporters.by_task import exporter_of
    from maas_magics.core.exporters.examples import ask
    from maas_magics.core.store.manifest import read_manifest

    out, raw = handed.answer_stream(), handed.unpacked(sys.stdin.buffer.read())
    task = read_manifest(Path(version)).answers
    run = (_reference if runtime == "reference" else _openvino)(Path(file))
    answers = ask(lambda rows: task.decoded_from(run(rows)), raw)
    first = ask(exporter_of("onnx", task).load(Path(file), Path(version), None), raw)
    with out:
        out.write(handed.written(answers=answers, first=first))


def _reference(file: Path) -> Run:
    import onnx
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(onnx.load_from_string(contents(file)) if is_sealed(file) else str(file))

    def run(raw: Sequence[Array]) -> Mapping[str, Array]:
        found = evaluator.run(None, dict(zip(evaluator.input_names, raw, strict=True)))
        return dict(zip(evaluator.output_names, map(np.asarray, found), strict=True))

    return run


def _openvino(file: Path) -> Run:
    from maas_magics.core.exporters.openvino import core

    read = core().read_model(contents(file)) if is_sealed(file) else core().read_model(str(file))
    compiled = core().compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(raw: Sequence[Array]) -> Mapping[str, Array]:
        found = compiled(dict(enumerate(raw)))
        return {output.get_any_name(): np.array(found[output]) for output in compiled.outputs}

    return run


if __name__ == "__main__":
    main(*sys.argv[1:])
