"""A session of ONNX Runtime over an exported file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime

from maas_magics.api.errors import StoreError
from maas_magics.core.compat.sessions import forget_bytes
from maas_magics.core.data.arrow import Array
from maas_magics.core.processors import cores
from maas_magics.core.runtimes import unanswered
from maas_magics.core.seal.files import contents, is_sealed

SMALL = 8 * 2**20
"""Bytes of weights below which a second thread costs more than it brings."""


def opened(file: Path, shared: bool = False, cpu: bool = False) -> onnxruntime.InferenceSession:
    """A session over a file.

    Parameters
    ----------
    file : Path
        ONNX file; one that is encrypted is decrypted in memory.
    shared : bool
        See `Engine`.
    cpu : bool
        Whether nothing but the processor is to compute.

    Raises
    ------
    StoreError
        If it cannot be opened.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what fails is raised, and told once
    if (own := cores()) < (os.cpu_count() or 1):
        options.intra_op_num_threads = own  # ONNX Runtime counts those of the whole machine, which would wait in turns
    if shared:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.enable_cpu_mem_arena = False
        if sum(each.stat().st_size for each in file.parent.glob(f"{file.name}*")) < SMALL:
            options.intra_op_num_threads = 1
    source: str | bytes = contents(file) if is_sealed(file) else str(file)
    beside = file.with_name(f"{file.name}.data")
    if isinstance(source, bytes) and beside.is_file():
        weights = contents(beside)
        options.add_external_initializers_from_files_in_memory([beside.name], [weights], [len(weights)])
    try:
        session = onnxruntime.InferenceSession(
            source, options, providers=["CPUExecutionProvider"] if cpu else _providers()
        )
    except Exception as error:  # ONNX Runtime has no base class for its errors
        raise StoreError(
            f"{file.name} cannot be opened: {str(error).splitlines()[0]}", "%export makes it anew."
        ) from error
    if isinstance(source, bytes):
        forget_bytes(session)
    return session


class Engine:
    """Runs an exported model.

    Parameters
    ----------
    file : Path
        ONNX file.
    shared : bool
        Whether the processor is shared with a server's other work: threads that wait then sleep, and a small
        model runs on the caller's thread. Memory of a run is then given back after it: ONNX Runtime's arena would
        keep the most that any run took.
    """

    def __init__(self, file: Path, shared: bool = False) -> None:
        self.session = opened(file, shared)
        self._inputs = [value.name for value in self.session.get_inputs()]
        self._outputs = [value.name for value in self.session.get_outputs()]
        whole = {"tensor(int64)": np.dtype(np.int64), "tensor(uint64)": np.dtype(np.uint64)}
        self._whole = [
            (i, whole[value.type]) for i, value in enumerate(self.session.get_outputs()) if value.type in whole
        ]

    @property
    def on_cpu(self) -> bool:
        """Whether nothing but the processor computes."""
        return list(self.session.get_providers()) == ["CPUExecutionProvider"]

    def run(self, raw: Sequence[Array]) -> dict[str, Array]:
        """Outputs by name for raw arrays in the order of the signature.

        Raises
        ------
        DataError
            If the graph fails on them, as for a number past an embedding.
        """
        try:
            found = self.session.run(None, dict(zip(self._inputs, raw, strict=True)))
        except Exception as error:  # ONNX Runtime has no base class for its errors
            raise unanswered(error) from error
        for place, dtype in self._whole:  # they come as C's ``long long``, which numpy shows as another type
            found[place] = found[place].view(dtype)
        return dict(zip(self._outputs, found, strict=True))


def _providers() -> list[str]:
    wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
    available = onnxruntime.get_available_providers()
    return [name for name in wanted if name in available]
