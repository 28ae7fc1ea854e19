"""Triton's Python backend: the requests that wait are answered together."""

from __future__ import annotations

import numpy as np
import triton_python_backend_utils as triton
from network import Network


class TritonPythonModel:
    """What the backend calls."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the network."""
        self._network = Network()

    def execute(self, requests: list) -> list:
        """Answer all requests of a turn with one run."""
        given = [triton.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        found = self._network(given[0] if len(given) == 1 else np.concatenate(given))
        answers, begin = [], 0
        for rows in given:
            end = begin + len(rows)
            tensors = [
                triton.Tensor(name, value[begin:end]) for name, value in zip(self._network.outputs, found, strict=True)
            ]
            answers.append(triton.InferenceResponse(tensors))
            begin = end
        return answers
