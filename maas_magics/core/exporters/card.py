"""The card of an export: what the model is, how good, and how to ask it with nothing of this package."""

from __future__ import annotations

import keyword
import re
from collections.abc import Collection, Iterator

from maas_magics.api.results import Artifact
from maas_magics.api.signature import NUMPY, TensorSpec
from maas_magics.api.tables import format_number
from maas_magics.core.exporters.text.lines import lines_of_text
from maas_magics.core.features.base import Feature
from maas_magics.core.features.modalities.prose import ProseFeature
from maas_magics.core.model import Model

CARD = "README.md"
"""Name of the file beside an export."""


ENCRYPTED = (
    "Its files are encrypted (AES-256-GCM): `maas_magics` with the key that `seal.json` names opens them, in memory "
    "alone; this card and `artifact.json` stay readable."
)


def card(model: Model, made: Artifact, file: str, kept: bool = True, sealed: bool = False) -> str:
    """A card as Markdown.

    Parameters
    ----------
    model : Model
        The version in torch.
    made : Artifact
        What was found of the export.
    file : str
        Name of the model file.
    kept : bool
        Whether held-out rows were kept with it; a model that writes is compared on texts of its own where none were.
    sealed : bool
        Whether its files are encrypted.
    """
    manifest = model.manifest
    writes = manifest.answers.runtime == "text"
    info, check = manifest.info, made.verification
    target = ", ".join(info.target)
    shown: dict[str, float | None] = {**dict.fromkeys(check.metrics_before), **check.metrics_after}
    parts = [
        f"# {made.model}, {made.variant}",
        f"Answers `{target}` ({manifest.answers.description}), by the network `{info.architecture}` with "
        f"{info.parameters:,} parameters"
        + (f"; labels: {', '.join(f'`{label}`' for label in info.classes[:20])}" if info.classes else "")
        + ".",
        "## How good it is",
        f"This file was not verified: {check.unverified}. The figures are those of the model in PyTorch."
        if check.unverified
        else _rows(check.rows, writes, kept),
        _table(
            ("metric", "here", "in PyTorch", "a constant"),
            ((name, value, check.metrics_before.get(name), info.baseline.get(name)) for name, value in shown.items()),
        )
        if shown
        else "No held-out rows were kept.",
        "It was measured on rows like those it was trained on; of others this says nothing."
        if kept
        else "Of other texts this says nothing.",
        "## What was measured",
        _measured(made),
    ]
    if sealed:
        signature = [] if writes else ["## Inputs and outputs", _signature(made)]
        return "\n\n".join([*parts, *signature, "## Ask it", ENCRYPTED]) + "\n"
    if writes:
        feature, decoder = model.processor.features[0], getattr(model.net, "decoder", None)
        assert isinstance(feature, ProseFeature)
        assert decoder is not None
        lines = lines_of_text(made.format, file, feature, decoder.config)
        return "\n\n".join([*parts, *(["## Ask it", lines] if lines else [])]) + "\n"
    parts += ["## Inputs and outputs", _signature(made)]
    if made.format == "onnx" and all(each.reader or not each.hosted for each in model.processor.features):
        parts += ["## Ask it", "In a folder with these files:", f"```python\n{reader(model, made, file)}```"]
    return "\n\n".join(parts) + "\n"


def _rows(rows: int, writes: bool, kept: bool) -> str:
    """What it was measured on."""
    beside = "beside it, what always answering the same gets."
    if not writes:
        return f"On the {rows:,} held-out rows that were kept with it; {beside}"
    if kept:
        return f"On {rows:,} blocks of tokens of the held-out texts that were kept with it; {beside}"
    return f"On {rows:,} blocks of tokens that the model wrote itself, for no texts were kept with it."


def reader(model: Model, made: Artifact, file: str) -> str:
    """Lines of Python that ask the file, by libraries that know nothing of this package.

    Parameters
    ----------
    model : Model
        The version in torch.
    made : Artifact
        What was found of the export.
    file : str
        Name of the model file.
    """
    pairs = list(zip(model.processor.features, made.signature.inputs, strict=True))
    needed = sorted({line for feature, _ in pairs for line in feature.reader_imports})
    lines = ["import numpy as np", "import onnxruntime", *needed, ""]
    called: dict[str, str] = {}
    for feature, _ in pairs:
        if feature.reader:
            called[feature.name] = _identifier(feature.name, called.values())
            lines += ["", *feature.reader.replace("READ", called[feature.name]).splitlines(), ""]
    lines += ["", "rows = {  # of one or more rows"]
    lines += [f"    {feature.name!r}: [{_example(feature)}]," for feature, _ in pairs]
    lines += ["}", "inputs = {"]
    for feature, spec in pairs:
        values = f"rows[{feature.name!r}]"
        given = f"{called[feature.name]}({values})" if feature.name in called else _array(values, spec)
        lines.append(f"    {spec.name!r}: {given},")
    lines += [
        "}",
        f"session = onnxruntime.InferenceSession({file!r})",
    ]
    once = "for output, values in zip(session.get_outputs(), session.run(None, inputs)):\n"
    lines += (model.manifest.answers.loop.strip() or f"{once}    print(output.name, values.tolist())").splitlines()
    lines.append("")
    return "\n".join(lines)


def _array(values: str, spec: TensorSpec) -> str:
    kind = "object" if spec.datatype == "BYTES" else repr(NUMPY[spec.datatype])
    shape = ", ".join(map(str, spec.shape[1:]))
    open_axes = any(size < 0 for size in spec.shape[1:])
    return f"np.array({values}, dtype={kind})" + ("" if open_axes else f".reshape(-1, {shape})" if shape else "")


def _example(feature: Feature) -> str:
    spec = feature.spec
    if feature.binary:
        return 'open("FILE", "rb").read()'
    if spec.datatype == "BYTES":
        return '"a text"' if spec.shape[1:] == (1,) else '["some", "words"]'
    shape = [1 if size < 0 else size for size in spec.shape[1:]]
    number = "0.0" if spec.datatype.startswith("FP") else "0"
    return number if not shape or shape == [1] else f"np.zeros({shape})"


def _identifier(name: str, taken: Collection[str]) -> str:
    made = re.sub(r"\W", "_", name)
    made = made if made.isidentifier() and not keyword.iskeyword(made) else f"column_{made}"
    while made in taken or made in ("np", "rows", "inputs", "session", "io"):
        made += "_"
    return made


def _signature(made: Artifact) -> str:
    rows = [("input", spec) for spec in made.signature.inputs] + [("output", spec) for spec in made.signature.outputs]
    told = "\n".join(
        f"| {kind} | `{spec.name}` | {spec.datatype} | {list(spec.shape)} | {spec.meaning} |" for kind, spec in rows
    )
    return f"| | name | type | shape | |\n|---|---|---|---|---|\n{told}"


def _measured(made: Artifact) -> str:
    """The report beside the metrics, as a table."""
    lines = [f"| | in PyTorch | {made.variant} |", "|---|---|---|"]
    lines += ["| " + " | ".join(text.replace("|", r"\|") for text in row) + " |" for row in made.measured]
    return "\n".join(lines)


def _table(head: tuple[str, ...], rows: Iterator[tuple[str, float | None, float | None, float | None]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, *values in rows:
        cells = (name, *("" if value is None else format_number(value) for value in values))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
