"""Where a model answers, and lines that ask it, to paste elsewhere."""

from __future__ import annotations

import math
from html import escape
from typing import Any

import msgspec

from maas_magics.api.signature import NUMPY, Signature, TensorSpec


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where other programs ask a model, and how. Holds no secret.

    Attributes
    ----------
    model : str
        Name that is asked: ``NAME``, or ``NAME:version``.
    url : str
        Of the service.
    token : str
        Where the token is, never the token: a file, or ``$VARIABLE``; empty where none is needed.
    signature : Signature
    """

    model: str
    url: str
    token: str
    signature: Signature

    @property
    def infer(self) -> str:
        """URL to post to, by the Open Inference Protocol."""
        name, colon, version = self.model.partition(":")
        return f"{self.url}/v2/models/{name}" + (f"/versions/{version}" if colon else "") + "/infer"

    @property
    def curl(self) -> str:
        """A line for a shell that asks for one row."""
        inputs = [_example(spec) for spec in self.signature.inputs]
        body = msgspec.json.encode({"inputs": inputs}).decode().replace("'", "'\\''")
        where = self.token if self.token.startswith("$") else f"$(cat {_quoted(self.token)})"
        token = f'-H "Authorization: Bearer {where}" ' if self.token else ""
        return f"curl -s {token}-d '{body}' {self.infer}"

    @property
    def python(self) -> str:
        """Lines for Python that ask for one row through ``tritonclient``."""
        name, colon, version = self.model.partition(":")
        address = self.url.partition("://")[2]
        lines = ["import numpy as np", "import tritonclient.http as triton", ""]
        secure = ", ssl=True" if self.url.startswith("https") else ""
        lines.append(f"client = triton.InferenceServerClient({address!r}{secure})")
        if self.token.startswith("$"):
            lines.insert(0, "import os\n")
            lines.append(f"token = os.environ[{self.token[1:]!r}]")
        elif self.token:
            lines.insert(0, "from pathlib import Path\n")
            lines.append(f"token = Path({self.token!r}).expanduser().read_text().strip()")
        lines.append("inputs = []")
        for spec in self.signature.inputs:
            shape = _shape(spec)
            dtype = "object" if spec.datatype == "BYTES" else repr(NUMPY[spec.datatype])
            value = "np.array(['a'], dtype=object)" if dtype == "object" else f"np.zeros({shape}, {dtype})"
            reshaped = f".reshape({shape})" if dtype == "object" else ""
            lines.append(f"inputs.append(triton.InferInput({spec.name!r}, {shape}, {spec.datatype!r}))")
            lines.append(f"inputs[-1].set_data_from_numpy({value}{reshaped})")
        headers = ", headers={'Authorization': f'Bearer {token}'}" if self.token else ""
        asked = f"{name!r}, inputs" + (f", model_version={version!r}" if colon else "") + headers
        lines.append(f"answer = client.infer({asked})")
        lines += [f"print(answer.as_numpy({spec.name!r}))" for spec in self.signature.outputs]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<Endpoint {self.model} · {self.infer}>"

    def report(self) -> str:
        """The endpoint, and how to ask it, as text."""
        return f"{self.model} answers at {self.infer}\n\n{self.curl}\n\n{self.python}"

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str]:
        return {"text/plain": self.report(), "text/html": self._html()}

    def _html(self) -> str:
        box = "<pre style='white-space:pre-wrap;margin:4px 0;text-align:left'>"
        return (
            f"<div><b>{escape(self.model)}</b> answers at {escape(self.infer)}"
            f"<details open><summary>curl</summary>{box}{escape(self.curl)}</pre></details>"
            f"<details><summary>Python</summary>{box}{escape(self.python)}</pre></details></div>"
        )


def _shape(spec: TensorSpec) -> list[int]:
    """Shape of one row."""
    return [1, *map(abs, spec.shape[1:])]


def _example(spec: TensorSpec) -> dict[str, Any]:
    """One row for an input."""
    value: Any = {"BYTES": "a", "BOOL": False}.get(spec.datatype, 0)
    shape = _shape(spec)
    return {"name": spec.name, "shape": shape, "datatype": spec.datatype, "data": [value] * math.prod(shape)}


def _quoted(path: str) -> str:
    """A path for a shell, with its ``~`` left for the shell to read."""
    plain = all(letter.isalnum() or letter in "/._-~+" for letter in path)
    return path if plain else "'" + path.replace("'", "'\\''") + "'"
