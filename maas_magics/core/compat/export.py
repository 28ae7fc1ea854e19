"""What ``torch.export`` does not offer openly."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import fx
from torch.nn.modules import transformer

from maas_magics.api.errors import incompatible

_LOOK = "_detect_is_causal_mask"

_READ = "get_torchlib_ops"

_operators: list[Any] = []


@contextmanager
def masks_as_told() -> Iterator[None]:
    """Within it layers of attention take a mask for causal only where they are called so.

    Private is the function of ``torch.nn.modules.transformer`` that looks at the mask's values, which no graph can
    follow, and which would only save work. Seen in torch 2.6 to 2.13; a version without it does not look.
    """
    look = getattr(transformer, _LOOK, None)
    if look is None:
        yield
        return
    setattr(transformer, _LOOK, lambda mask, is_causal=None, size=None: is_causal is True)
    try:
        yield
    finally:
        setattr(transformer, _LOOK, look)


@contextmanager
def operators_kept() -> Iterator[None]:
    """Within it torch's ONNX exporter reads the operators that it knows once in a process, not in each export.

    Private is ``torch.onnx._internal._lazy_import``, by which it reaches ``get_torchlib_ops`` of onnxscript. That
    parses the source of some 500 functions, the same at each call, which takes a third of the export of a small
    network. Seen in torch 2.13; a version without it reads them each time.
    """
    try:
        from torch.onnx._internal import _lazy_import

        reached: Any = vars(_lazy_import)["onnxscript_apis"]
        read = reached.get_torchlib_ops
    except (ImportError, KeyError, AttributeError):
        yield
        return

    def kept() -> list[Any]:
        if not _operators:
            _operators.extend(read())
        return list(_operators)

    setattr(reached, _READ, kept)
    try:
        yield
    finally:
        setattr(reached, _READ, read)


@contextmanager
def shapes_only() -> Iterator[None]:
    """Within it tensors have shapes and no values; it ends early, in silence, where a shape would depend on values.

    Private is ``torch._subclasses.fake_tensor``, which ``torch.export`` itself stands on. Seen in torch 2.6 to 2.13.

    Raises
    ------
    IncompatibleVersion
        If torch has it no more.
    """
    try:
        from torch._subclasses.fake_tensor import DynamicOutputShapeException, FakeTensorMode
    except ImportError:
        raise incompatible("torch", "torch._subclasses.fake_tensor", "Checking a graph") from None
    with suppress(DynamicOutputShapeException), FakeTensorMode():
        yield


def graph_in_words(program: torch.export.ExportedProgram, graph: fx.GraphModule) -> dict[str, Any]:
    """A graph as plain values, by the schema of torch's own archives: ``graph_module`` and ``schema_version``.

    Private is ``torch._export.serde``: ``torch.export.save`` would put weights, samples and traces of the machine
    beside the graph. Seen in torch 2.6 (schema 8.2) to 2.13 (schema 8.20).

    Parameters
    ----------
    program : ExportedProgram
        Whose signature the graph has.
    graph : GraphModule

    Raises
    ------
    IncompatibleVersion
        If torch has it no more.
    """
    try:
        from torch._export.serde import schema, serialize

        serializer = serialize.GraphModuleSerializer(program.graph_signature, [])
        told = serialize._dataclass_to_dict(serializer.serialize(graph))  # type: ignore[no-untyped-call]
        major, minor = schema.SCHEMA_VERSION
    except (ImportError, AttributeError) as error:
        raise incompatible("torch", f"torch._export.serde as it was ({error})", "Sending a module as a graph") from None
    return {"graph_module": told, "schema_version": {"major": major, "minor": minor}}


def drop_examples(program: torch.export.ExportedProgram) -> None:
    """Take the rows that a program was traced with out of it, before it is written to a file.

    Private is ``_example_inputs``: the open name takes None only in later versions than 2.6. Seen in torch 2.6 to
    2.13.
    """
    program._example_inputs = None
