"""The network of this benchmark, for servers that run in interpreters of their own."""

from __future__ import annotations

import os

import numpy as np
import onnxruntime

NAME = "net"


class Network:
    """A session of ONNX Runtime on one thread, over a file; the one that ``NETWORK`` names, by default."""

    def __init__(self, file: str = "") -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        providers = ["CPUExecutionProvider"]
        self._session = onnxruntime.InferenceSession(file or os.environ["NETWORK"], options, providers=providers)
        self._input = self._session.get_inputs()[0].name
        self.outputs = [output.name for output in self._session.get_outputs()]

    def __call__(self, rows: np.ndarray) -> list[np.ndarray]:
        """Answer rows of 64 numbers with one array for each output."""
        return self._session.run(self.outputs, {self._input: rows})
