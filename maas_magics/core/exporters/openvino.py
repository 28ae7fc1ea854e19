"""OpenVINO's intermediate representation, from numbers and category codes to decoded answers; an extra.

It is made of an ONNX file, as OpenVINO reads those faster and more of them than torch's programs. Texts of categories
stay outside, as it has no operator for them: such columns enter as codes. OpenVINO computes in bfloat16 where a
processor can, unless it is asked for floats, and on a processor integers of 64 bits and float64 in 32 bits: what that
changes is past the tolerance, and nothing is published then.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from maas_magics.api.errors import ExportError, require
from maas_magics.api.signature import Signature
from maas_magics.core.data.arrow import Array
from maas_magics.core.exporters import Run, exporters
from maas_magics.core.exporters.examples import LEAST, coded, drawn
from maas_magics.core.features.base import Feature
from maas_magics.core.features.processor import Processor
from maas_magics.core.model import Model
from maas_magics.core.seal.files import is_sealed

FLOATS = {"INFERENCE_PRECISION_HINT": "f32"}
"""How a file is to be compiled."""

ACCEPTED = 1e-3
"""Difference on rows beside the held-out ones, which those are then held to more closely."""


class OpenVino:
    """``model.xml``, and its weights beside it in ``model.bin``."""

    file = "model.xml"
    isolated = True

    def export(self, model: Model, file: Path) -> Signature:
        """Write ``model`` by way of an ONNX file.

        Raises
        ------
        ExportError
            If OpenVINO has no rule for one of its operators.
        MissingDependency
            If OpenVINO is not installed.
        """
        require("openvino", "openvino", "The OpenVINO export", "maas-magics[openvino]")
        import openvino

        from maas_magics.core.exporters.onnx import core_of

        with TemporaryDirectory(dir=file.parent) as work:
            plain = Path(work) / "model.onnx"
            plain.write_bytes(core_of(model).SerializeToString())
            try:
                made: Any = openvino.convert_model(str(plain))
            except Exception as error:  # OpenVINO's own kinds are private
                why = " ".join(str(error).split())[:200]
                raise ExportError(f"OpenVINO cannot read it: {why}", "--format onnx") from error
        specs = coded(model.processor)
        for port, spec in zip(made.inputs, specs, strict=True):
            port.get_tensor().set_names({spec.name})
        openvino.save_model(made, str(file), compress_to_fp16=False)
        _check_missing(model, _answering(file, model.processor))
        return Signature(specs, (model.manifest.answers.decoded_spec,))

    def load(self, file: Path, version: Path, model: Model | None) -> Run:
        """Open the file in OpenVINO, on the processor, in floats."""
        require("openvino", "openvino", "The OpenVINO export", "maas-magics[openvino]")
        from maas_magics.core.store.manifest import read_processor

        return _answering(file, read_processor(version))


@functools.cache
def core() -> Any:
    """OpenVINO's core: one, that stays as long as the process.

    With each core it gives the thread a stack for signals, which it takes away again with that core's last model, also
    where the thread has another one by then or it is another thread: the next signal, such as that of an interrupted
    cell, would end the process (seen in 2026.4, ``findings/openvino-leaves-a-thread-without-its-signal-stack.sh``).
    """
    import openvino

    return openvino.Core()


def _answering(file: Path, processor: Processor) -> Run:
    from maas_magics.core.features.module import entered_hosted

    if is_sealed(file):
        raise ExportError("The OpenVINO file is encrypted, and OpenVINO opens files alone.", "--format onnx")
    compiled = core().compile_model(str(file), "CPU", FLOATS)

    def run(raw: Sequence[Array]) -> Array:
        given = [values.numpy() for values in entered_hosted(processor, raw)]
        return np.array(compiled(dict(enumerate(given)))[0])

    return run


def _check_missing(model: Model, run: Run) -> None:
    """Raise where rows that are missing, or times of any year, are answered otherwise: held-out rows may have none."""
    rows = drawn(model)
    none = [
        _missing(feature, values[:LEAST].copy()) for feature, values in zip(model.processor.features, rows, strict=True)
    ]
    for what, raw in (("rows drawn at random", rows), ("rows with missing values", none)):
        hosted = model.processor.hosted_raw([values[:LEAST] for values in raw])
        apart = model.manifest.answers.difference(*model.comparable(model.run_hosted(hosted), run(hosted)))
        if not apart <= ACCEPTED:
            raise ExportError(
                f"OpenVINO answers {what} differently, by up to {apart:.1e}: it computes integers in 32 bits, and "
                "takes what is missing for numbers. Nothing was published.",
                "--format onnx",
            )


def _missing(feature: Feature, values: Array) -> Array:
    """Raw values that are missing, where a column may have such."""
    if feature.gaps:
        values[:] = np.nan
    elif feature.timed:
        values[:] = np.iinfo(np.int64).min
    elif feature.may_be_blank and values.dtype == object:
        values[:] = ""
    return values


exporters.register("openvino")(OpenVino())
