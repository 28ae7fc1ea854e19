"""A model of Keras or TensorFlow becomes a version, by way of an ONNX file that answers as it does."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from maas_magics.api.child import python
from maas_magics.api.errors import ModelError, require
from maas_magics.api.requests import ImportRequest
from maas_magics.api.results import ModelInfo
from maas_magics.core.context import Context
from maas_magics.core.data.arrow import Array
from maas_magics.core.importers.onnx.bring import Origin, import_graph
from maas_magics.core.importers.onnx.trial import Answered
from maas_magics.core.store.storage import staging

EXTRA = "maas-magics[tensorflow]"

FILES = (".keras", ".h5", ".hdf5")

CLOSE = 1e-4
"""Difference, by the size of the answers, that a graph may have from the model that it was made of."""

SECONDS = 600


def is_keras(file: Path) -> bool:
    """Whether a path is that of a file of Keras, or of a SavedModel.

    Parameters
    ----------
    file : Path
        As the user named it.
    """
    return (file / "saved_model.pb").is_file() or (file.suffix.lower() in FILES and not file.is_dir())


def import_keras(file: Path, request: ImportRequest, context: Context) -> ModelInfo:
    """Publish a model of Keras or TensorFlow as a new version.

    Parameters
    ----------
    file : Path
        ``.keras``, ``.h5``, or the folder of a SavedModel.
    request : ImportRequest
        Its name, sample rows, and what their target is called.
    context : Context
        Where it becomes a model.

    Raises
    ------
    ModelError
        If it holds code, cannot be converted, or its graph answers otherwise.
    MissingDependency
        If TensorFlow or tf2onnx is not installed.
    """
    require("tensorflow", "tensorflow", "The import of Keras and TensorFlow models", EXTRA)
    require("tf2onnx", "tf2onnx", "The import of Keras and TensorFlow models", EXTRA)
    if not file.exists():
        raise ModelError(f"There is no file {file}.", "%maas import FILE.keras --as NAME")
    with staging(context.store.work) as work, _Conversion(file.resolve(), work) as made:
        return import_graph(made.graph, request, context, Origin(request.path, "keras", verify=made.verify))


class _Conversion:
    """The process that has the model open: it makes the graph, then answers the rows that are compared."""

    def __init__(self, file: Path, work: Path) -> None:
        self._file, self._work = file, work
        self.graph = work / "model.onnx"

    def __enter__(self) -> _Conversion:
        self._told: IO[bytes] = open(self._work / "told.txt", "w+b")
        self._process = subprocess.Popen(
            python("maas_magics.core.importers.tensorflow.convert", str(self._file), str(self._work)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._told,
        )
        self._timer = threading.Timer(SECONDS, self._process.kill)
        self._timer.start()
        assert self._process.stdout is not None
        try:
            while (line := self._process.stdout.readline()).strip() != b"made":
                if not line:
                    raise self._failed("cannot be converted")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        self._process.kill()
        self._process.communicate()
        self._told.close()

    def verify(self, given: Mapping[str, Array], answered: Sequence[Answered]) -> None:
        """Raise `ModelError` where answers are not those of the model itself."""
        np.savez(self._work / "inputs.npz", **{f"in {name}": values for name, values in given.items()})  # type: ignore[arg-type]
        self._process.communicate(b"answer\n")
        if self._process.returncode:
            raise self._failed("cannot answer")
        with np.load(self._work / "answers.npz") as found:
            for one in answered:
                wanted = found[f"out {one.name}"]
                size = max(1.0, float(np.abs(wanted).max(initial=0)))
                apart = (
                    float(np.abs(wanted - one.values).max(initial=0)) if wanted.shape == one.values.shape else np.inf
                )
                if not apart <= CLOSE * size:
                    raise ModelError(
                        f"The graph of {self._file.name} answers {one.name!r} otherwise than TensorFlow does, by up to "
                        f"{apart:.1e}. Nothing was published.",
                        "Give sample rows that it was made for: --sample df",
                    )

    def _failed(self, what: str) -> ModelError:
        code = self._process.wait()
        refused = self._work / "refused.json"
        if refused.is_file():
            message, hint = json.loads(refused.read_text(encoding="utf-8"))
            return ModelError(message, hint)
        self._told.seek(0)
        lines: list[Any] = self._told.read().decode(errors="replace").strip().splitlines() or ["it failed"]
        why = f"its process died with signal {-code}" if code < 0 else lines[-1]
        return ModelError(
            f"{self._file.name} {what}: {why}",
            "Where you have it open: model.export('model.onnx', format='onnx'), then %maas import model.onnx",
        )
