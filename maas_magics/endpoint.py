"""Where a model answers, and lines of code that query it, to paste elsewhere."""

from __future__ import annotations

import math
from html import escape
from typing import Any

import msgspec

from maas_magics.api.signature import NUMPY, Signature, TensorSpec

UTILITIES = "tritonclient.utils import np_to_triton_dtype"

BOX = "position:relative;margin:4px 0;padding:6px 10px;border:1px solid #80889066;border-radius:6px"
LINES = (
    "white-space:pre-wrap;overflow-wrap:anywhere;max-height:15em;overflow:auto;margin:0;padding:0 64px 0 0;"
    "text-align:left;background:none"
)

# A page that is not served safely has no clipboard for scripts: there the lines are at least selected.
COPY = (
    '<button type="button" title="copy to the clipboard" style="position:absolute;top:5px;right:6px;padding:1px 8px;'
    "font:inherit;font-size:11px;color:inherit;background:none;border:1px solid #80889066;border-radius:6px;"
    'cursor:pointer" onclick="const b=this,p=b.nextElementSibling;getSelection().selectAllChildren(p);'
    "(navigator.clipboard?navigator.clipboard.writeText(p.textContent):document.execCommand('copy')?"
    "Promise.resolve():Promise.reject()).then(()=>{b.textContent='Copied';getSelection().removeAllRanges()},"
    "()=>{b.textContent='Ctrl+C'});setTimeout(()=>{b.textContent='Copy'},2000)\">Copy</button>"
)
"""A button that copies what stands behind it."""


FILE = "FILE"
"""Stands for the path of a picture or a sound."""


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where other programs query a model, and how. Holds no secret.

    Attributes
    ----------
    model : str
        Name of the model: ``NAME``, or ``NAME:version``.
    url : str
        Of the service.
    token : str
        Where the token is, never the token: a file, or ``$VARIABLE``; empty where none is needed.
    signature : Signature
    iterative : bool
        Whether it answers in several passes, as what writes or draws does: by OpenAI's API, then.
    """

    model: str
    url: str
    token: str
    signature: Signature
    iterative: bool = False

    @property
    def writes(self) -> bool:
        """Whether its answers are texts, where it answers in several passes."""
        return [spec.datatype for spec in self.signature.outputs] == ["BYTES"]

    @property
    def infer(self) -> str:
        """URL to post to: by the Open Inference Protocol, or OpenAI's API."""
        if self.iterative:
            return f"{self.url}/v1/" + ("completions" if self.writes else "images/generations")
        name, colon, version = self.model.partition(":")
        return f"{self.url}/v2/models/{name}" + (f"/versions/{version}" if colon else "") + "/infer"

    @property
    def curl(self) -> str:
        """A line for a shell that predicts one row."""
        if self.iterative:
            asked = {"model": self.model, "prompt": "a"} | ({"max_tokens": 40} if self.writes else {})
            typed = f"-H 'Content-Type: application/json' -d '{msgspec.json.encode(asked).decode()}'"
            return f"curl -s {self._header}{typed} {self.infer}"
        inputs = [_example(spec) for spec in self.signature.inputs]
        body = msgspec.json.encode({"inputs": inputs}).decode().replace("'", "'\\''")
        body = body.replace(f'"{FILE}"', f"\"'$(base64 < {FILE} | tr -d '\\n')'\"")
        return f"curl -s {self._header}-d '{body}' {self.infer}"

    @property
    def _header(self) -> str:
        where = self.token if self.token.startswith("$") else f"$(cat {_quoted(self.token)})"
        return f'-H "Authorization: Bearer {where}" ' if self.token else ""

    @property
    def python(self) -> str:
        """Lines of Python that predict one row through ``tritonclient``, or ask by the ``openai`` client."""
        if self.iterative:
            return self._by_openai
        name, colon, version = self.model.partition(":")
        address = self.url.partition("://")[2]
        secure = ", ssl=True" if self.url.startswith("https") else ""
        lines = [
            "import numpy as np",
            "import tritonclient.http as triton",
            "from tritonclient.utils import np_to_triton_dtype",
            "",
        ]
        if self.token.startswith("$"):
            lines.insert(0, "import os")
            lines.append(f"token = os.environ[{self.token[1:]!r}]")
        if (self.token and not self.token.startswith("$")) or any(map(_is_file, self.signature.inputs)):
            lines.insert(0, "from pathlib import Path")
        if self.token and not self.token.startswith("$"):
            lines.append(f"token = Path({self.token!r}).expanduser().read_text().strip()")
        lines.append("row = {")
        lines += [f"    {spec.name!r}: {_array(spec)}," for spec in self.signature.inputs]
        headers = ", headers={'Authorization': f'Bearer {token}'}" if self.token else ""
        asked = f"{name!r}, inputs" + (f", model_version={version!r}" if colon else "") + headers
        lines += [
            "}",
            "inputs = [triton.InferInput(name, x.shape, np_to_triton_dtype(x.dtype)) for name, x in row.items()]",
            "for tensor, x in zip(inputs, row.values()):",
            "    tensor.set_data_from_numpy(x)",
            f"client = triton.InferenceServerClient({address!r}{secure})",
            f"answer = client.infer({asked})",
            *(f"print(answer.as_numpy({spec.name!r}))" for spec in self.signature.outputs),
        ]
        return "\n".join(lines)

    @property
    def _by_openai(self) -> str:
        key = "'none'"
        lines = ["from openai import OpenAI", ""]
        if self.token.startswith("$"):
            lines, key = ["import os", "", *lines], f"os.environ[{self.token[1:]!r}]"
        elif self.token:
            lines = ["from pathlib import Path", "", *lines]
            key = f"Path({self.token!r}).expanduser().read_text().strip()"
        lines.append(f"client = OpenAI(base_url={self.url + '/v1'!r}, api_key={key})")
        if self.writes:
            lines.append(f"answer = client.completions.create(model={self.model!r}, prompt='a', max_tokens=40)")
            return "\n".join([*lines, "print(answer.choices[0].text)"])
        asked = f"model={self.model!r}, prompt='a', response_format='b64_json'"
        return "\n".join([*lines, f"answer = client.images.generate({asked})", "print(answer.data[0].b64_json)"])

    def __repr__(self) -> str:
        return f"<Endpoint {self.model} · {self.infer}>"

    def report(self) -> str:
        """The endpoint, and how to query it, as text."""
        return f"{self.model} answers at {self.infer}\n\n{self.curl}\n\n{self.python}"

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str]:
        return {"text/plain": self.report(), "text/html": self._html()}

    def _html(self) -> str:
        lines = [("curl", self.curl, " open"), ("Python", self.python, "")]
        parts = "".join(
            f"<details{is_open}><summary>{name}</summary>"
            f'<div style="{BOX}">{COPY}<pre style="{LINES}">{escape(text)}</pre></div></details>'
            for name, text, is_open in lines
        )
        return f"<div><b>{escape(self.model)}</b> answers at {escape(self.infer)}{parts}</div>"


def _is_file(spec: TensorSpec) -> bool:
    """Whether an input is the bytes of a file, as its meaning says."""
    return spec.datatype == "BYTES" and spec.meaning.endswith("base64 in JSON")


def _shape(spec: TensorSpec) -> list[int]:
    """Shape of one row."""
    return [1, *map(abs, spec.shape[1:])]


def _example(spec: TensorSpec) -> dict[str, Any]:
    """One row for an input."""
    value: Any = FILE if _is_file(spec) else {"BYTES": "a", "BOOL": False}.get(spec.datatype, 0)
    shape = _shape(spec)
    return {"name": spec.name, "shape": shape, "datatype": spec.datatype, "data": [value] * math.prod(shape)}


def _array(spec: TensorSpec) -> str:
    """One row for an input, as Python."""
    shape = _shape(spec)
    if _is_file(spec):
        return f"np.full({shape}, Path({FILE!r}).read_bytes(), dtype=object)"
    if spec.datatype == "BYTES":
        return f"np.full({shape}, 'a', dtype=object)"
    return f"np.zeros({shape}, dtype={NUMPY[spec.datatype]!r})"


def _quoted(path: str) -> str:
    """A path for a shell, with its ``~`` left for the shell to read."""
    plain = all(letter.isalnum() or letter in "/._-~+" for letter in path)
    return path if plain else "'" + path.replace("'", "'\\''") + "'"
