"""Names in an ONNX graph, and what it tells of the machine that it was made on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def apart(names: Sequence[str], taken: set[str]) -> list[str]:
    """The names, with ``_`` behind those that are taken, or empty."""
    found: list[str] = []
    for name in names:
        while name in taken or not name:  # an empty name stands for no value in ONNX
            name += "_"
        taken = {*taken, name}
        found.append(name)
    return found


def prefix(graph: Any, inner: str, kept: set[str]) -> None:
    """Rename every value of a graph, so that no column's name can meet one of its own."""

    def renamed(name: str) -> str:
        return name if name in kept else f"{inner}/{name}"

    for value in (*graph.input, *graph.initializer, *graph.value_info, *graph.output):
        value.name = renamed(value.name)
    for sparse in graph.sparse_initializer:
        sparse.values.name = renamed(sparse.values.name)
    for node in graph.node:
        node.input[:] = [renamed(name) for name in node.input]
        node.output[:] = [renamed(name) for name in node.output]
        for attribute in node.attribute:
            for part in (attribute.g, *attribute.graphs) if attribute.HasField("g") or attribute.graphs else ():
                prefix(part, inner, kept)


def clear_graph(graph: Any) -> None:
    """Leave out what describes the machine that a graph was made on, its inner graphs included."""
    for part in (graph, *graph.node, *graph.initializer, *graph.value_info):
        clear(part)
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                clear_graph(inner)


def clear(part: Any) -> None:
    """Leave out what describes the machine that a part of a graph was made on."""
    if hasattr(part, "metadata_props"):
        del part.metadata_props[:]
    part.doc_string = ""
