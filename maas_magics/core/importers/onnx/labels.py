"""The labels that a graph answers, read from the operators that pick them."""

from __future__ import annotations

from typing import Any

import numpy as np

from maas_magics.core.data.labels import Label

THROUGH = ("Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten")
"""Operators that hand a label on."""

NAMED = ("classlabels_strings", "classlabels_int64s", "classlabels_ints")
"""Attributes of classifiers, and of ZipMap, that hold their labels."""


class Graph:
    """Who makes which value of a graph, and which values are constant.

    Parameters
    ----------
    model : ModelProto
        The graph.
    """

    def __init__(self, model: Any) -> None:
        self.makers = {name: node for node in model.graph.node for name in node.output}
        self._constants = {tensor.name: tensor for tensor in model.graph.initializer}

    def constant(self, name: str) -> np.ndarray[Any, Any] | None:
        """A value that is the same for all rows; None where it is computed."""
        import onnx

        tensor, node = self._constants.get(name), self.makers.get(name)
        if tensor is None and node is not None and node.op_type == "Constant":
            known = attributes(node)
            tensor = known.get("value")
            if tensor is None:
                listed = known.get("value_strings") or known.get("value_ints")
                return None if listed is None else np.array(_plain(listed))
        return None if tensor is None else np.asarray(onnx.numpy_helper.to_array(tensor))

    def through(self, name: str) -> Any:
        """The node that makes a value, before casts and the like; None for an input."""
        node = self.makers.get(name)
        while node is not None and node.op_type in THROUGH:
            node = self.makers.get(node.input[0])
        return node


def attributes(node: Any) -> dict[str, Any]:
    """Attributes of a node by name.

    Parameters
    ----------
    node : NodeProto
        The node.
    """
    import onnx

    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}


def labels_of(graph: Graph, name: str, width: int) -> tuple[Label, ...] | None:
    """Labels in the order of their scores; None where a value is no label, as far as its operators say.

    Parameters
    ----------
    graph : Graph
        The graph.
    name : str
        Of a value.
    width : int
        Classes, where only the place of the largest score is answered; 0 for unknown.
    """
    node = graph.through(name)
    if node is None:
        return None
    if (own := named_labels(node)) is not None:
        return own
    if node.op_type in ("ArrayFeatureExtractor", "Gather"):
        table = graph.constant(node.input[0])
        if table is None or (node.op_type == "Gather" and not _is_place(graph, node.input[1])):
            return None
        return tuple(_plain(table.reshape(-1).tolist()))
    if node.op_type == "LabelEncoder":
        return _encoded(graph, node, width)
    if node.op_type == "ArgMax" and width > 1:
        return tuple(range(width))
    return None


def named_labels(node: Any) -> tuple[Label, ...] | None:
    """Labels that a classifier, or a ZipMap, says it has.

    Parameters
    ----------
    node : NodeProto
        The node.
    """
    known = attributes(node)
    found = next((known[name] for name in NAMED if known.get(name)), None)
    return None if found is None else tuple(_plain(found))


def _encoded(graph: Graph, node: Any, width: int) -> tuple[Label, ...] | None:
    known = attributes(node)
    keys = next((known[name] for name in ("keys_int64s", "keys_strings", "keys_floats") if known.get(name)), None)
    values = next(
        (known[name] for name in ("values_strings", "values_int64s", "values_floats") if known.get(name)), None
    )
    if keys is None and known.get("classes_strings"):  # as the first version has it: from a place to a text
        keys, values = range(len(known["classes_strings"])), known["classes_strings"]
    before = labels_of(graph, node.input[0], width or len(keys or ()))
    if keys is None or values is None or before is None:
        return None
    table = dict(zip(_plain(list(keys)), _plain(list(values)), strict=True))
    found = tuple(table.get(int(label) if isinstance(label, float) else label) for label in before)
    return None if None in found else found  # type: ignore[return-value]


def _is_place(graph: Graph, name: str) -> bool:
    node = graph.through(name)
    return node is not None and node.op_type in ("ArgMax", "TopK", "Where", "Greater", "GreaterOrEqual", "Less")


def _plain(values: Any) -> list[Any]:
    return [one.decode() if isinstance(one, bytes) else one for one in values]


def is_softmax(graph: Graph, name: str) -> bool:
    """Whether a value is what a softmax gives.

    Parameters
    ----------
    graph : Graph
        The graph.
    name : str
        Of a value.
    """
    node = graph.through(name)
    return node is not None and node.op_type == "Softmax"
