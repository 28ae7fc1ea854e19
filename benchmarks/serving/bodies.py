"""What is sent to the servers, and what an answer says."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

LENGTH = "Inference-Header-Content-Length"
INPUT, OUTPUT = "x", "probabilities"


@dataclass(frozen=True)
class Body:
    """Bytes to post, with their headers."""

    data: bytes
    headers: dict[str, str] = field(default_factory=dict)


def oip_json(rows: np.ndarray) -> Body:
    """Rows by the Open Inference Protocol, the digits as Python writes them."""
    tensor = {"name": INPUT, "shape": list(rows.shape), "datatype": "FP32", "data": rows.ravel().tolist()}
    return Body(json.dumps({"inputs": [tensor]}).encode(), {"Content-Type": "application/json"})


def oip_binary(rows: np.ndarray) -> Body:
    """The same with tensors in binary, both ways."""
    size = {"binary_data_size": rows.nbytes}
    tensor = {"name": INPUT, "shape": list(rows.shape), "datatype": "FP32", "parameters": size}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return Body(head + rows.tobytes(), {"Content-Type": "application/octet-stream", LENGTH: str(len(head))})


def named(rows: np.ndarray) -> Body:
    """Rows under the name of their input, for servers without that protocol."""
    return Body(json.dumps({INPUT: rows.tolist()}).encode(), {"Content-Type": "application/json"})


def probabilities(answer: bytes, head: int | None) -> np.ndarray:
    """Probabilities in an answer, whose first bytes are JSON if it is binary."""
    import numpy as np

    found: dict[str, Any] = json.loads(answer[:head])
    if "outputs" not in found:
        return np.array(found[OUTPUT], np.float32)
    begin = len(answer) if head is None else head
    for output in found["outputs"]:
        size = (output.get("parameters") or {}).get("binary_data_size", 0)
        if output["name"] == OUTPUT:
            value = np.frombuffer(answer[begin:][:size], "<f4") if size else np.array(output["data"], np.float32)
            return value.reshape(output["shape"])
        begin += size
    raise ValueError(f"The answer has no output {OUTPUT!r}.")
