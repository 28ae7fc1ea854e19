"""A graph of someone else's with columns before it, and answers of a task behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from maas_magics.api.errors import ModelError
from maas_magics.api.signature import NUMPY, TensorSpec
from maas_magics.core.graphs.onnx_names import apart, clear, clear_graph, prefix
from maas_magics.core.importers.onnx.answers import Head
from maas_magics.core.importers.onnx.columns import Taken
from maas_magics.core.tasks.base import Task


def joined(model: Any, taken: Sequence[Taken], heads: Sequence[Head], task: Task) -> Any:
    """The whole: raw columns in, answers and probabilities out.

    Parameters
    ----------
    model : ModelProto
        The graph, which is changed.
    taken : sequence of Taken
        Its inputs, and the columns of each.
    heads : sequence of Head
        Its answers.
    task : Task
        Theirs.
    """
    import onnx

    clear_graph(model.graph)
    for part in (model, *model.functions, *(node for function in model.functions for node in function.node)):
        clear(part)
    inner = "core"
    columns = [feature for each in taken for feature in each.features]
    while any(feature.name.startswith(f"{inner}/") for feature in columns):
        inner += "_"
    _free_batch(model)
    prefix(model.graph, inner, {""})
    outputs = [spec for specs in (task.part_specs or (task.specs,)) for spec in specs]
    raw = iter(apart([feature.name for feature in columns], {spec.name for spec in outputs}))
    inputs, before = [], []
    for each in taken:
        names = [next(raw) for _ in each.features]
        inputs += [_value(feature.spec, name) for feature, name in zip(each.features, names, strict=True)]
        entry = f"{inner}/{each.input.name}"
        before.append(
            onnx.helper.make_node("Concat", names, [entry], axis=1)
            if each.joined
            else onnx.helper.make_node("Identity", names, [entry])
        )
    after = _Answers(model, inner)
    for head, specs in zip(heads, task.part_specs or (task.specs,), strict=True):
        after.add(head, specs)
    constant = {tensor.name for tensor in model.graph.initializer}
    graph = onnx.helper.make_graph(
        [*before, *model.graph.node, *after.nodes],
        "model",
        inputs,
        [_value(spec, spec.name) for spec in outputs],
        [*model.graph.initializer, *after.constants],
        value_info=[value for value in model.graph.value_info if value.name not in constant],
        sparse_initializer=list(model.graph.sparse_initializer),
    )
    _drop_unread(graph)
    whole = onnx.helper.make_model(
        graph, opset_imports=after.opsets(), functions=list(model.functions), producer_name="maas_magics"
    )
    whole.ir_version = max(model.ir_version, 4)  # weights of older files are inputs as well
    return whole


def _free_batch(model: Any) -> None:
    """Let a graph take any number of rows, as far as its declarations go."""
    del model.graph.value_info[:]
    for value in (*model.graph.input, *model.graph.output):
        if value.type.HasField("tensor_type") and value.type.tensor_type.shape.dim:
            dim = value.type.tensor_type.shape.dim[0]
            dim.Clear()
            dim.dim_param = "batch"


def _drop_unread(graph: Any) -> None:
    """Leave out nodes that nothing reads, such as those that made maps of scores."""
    while True:
        read = {value.name for value in graph.output}
        for node in graph.node:
            read |= _reads(node)
        kept = [node for node in graph.node if any(name in read for name in node.output)]
        if len(kept) == len(graph.node):
            break
        del graph.node[:]
        graph.node.extend(kept)
    read = set().union(*(_reads(node) for node in graph.node)) | {value.name for value in graph.output}
    used = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(used)


def _reads(node: Any) -> set[str]:
    found = set(node.input)
    for attribute in node.attribute:
        for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            for each in inner.node:
                found |= _reads(each)
            found |= {value.name for value in inner.output}
    return found


def _value(spec: TensorSpec, name: str) -> Any:
    import onnx

    axes = ["batch", *(f"{name}/{axis}" if size < 0 else size for axis, size in enumerate(spec.shape[1:], 1))]
    return onnx.helper.make_tensor_value_info(name, _element(spec.datatype), axes)


def _element(datatype: str) -> int:
    import onnx

    if datatype == "BYTES":
        return int(onnx.TensorProto.STRING)
    return int(onnx.helper.np_dtype_to_tensor_dtype(np.dtype(NUMPY[datatype])))


class _Answers:
    """Nodes that turn values of a graph into the answers of a task."""

    def __init__(self, model: Any, inner: str) -> None:
        self._inner = inner
        self._domains = {entry.domain or "": entry.version for entry in model.opset_import}
        self._encodes = any(node.op_type == "LabelEncoder" for node in model.graph.node)
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, head: Head, specs: Sequence[TensorSpec]) -> None:
        """Add those of one head."""
        value = f"{self._inner}/{head.value}"
        if head.made == "numbers":
            self._shaped(value, specs[-1], specs[-1].name)
            return
        scores = specs[-1].name
        place = self._name("place")
        if head.made == "scores":
            self._shaped(value, specs[-1], scores)
            self._node("ArgMax", [scores], [place], axis=1, keepdims=0)
        else:
            self._encoded(value, head.task, place)
            flags = self._constant(np.array([0.0, 1.0], dtype=np.float32))
            depth = self._constant(np.array([specs[-1].shape[1]], dtype=np.int64))
            self._node("OneHot", [place, depth, flags], [scores], axis=-1)
        self._node("Gather", [self._labels(head.task), place], [specs[0].name], axis=0)

    def opsets(self) -> list[Any]:
        """Versions of all operators."""
        import onnx

        return [onnx.helper.make_opsetid(domain, version) for domain, version in self._domains.items()]

    def _encoded(self, value: str, task: Task, place: str) -> None:
        """The place of a label among those of a task."""
        if self._domains.get("ai.onnx.ml", 4) < 2:
            if self._encodes:
                raise ModelError("The graph's label encoders are of an old version.", "Export it with ai.onnx.ml 3.")
            self._domains["ai.onnx.ml"] = 2
        self._domains.setdefault("ai.onnx.ml", 3)
        line = self._name("label")
        self._node("Reshape", [value, self._constant(np.array([-1], dtype=np.int64))], [line])
        labels = task.label_array.tolist()
        text = isinstance(labels[0], str)
        if not text:
            line = self._cast(line, "INT64")
        keys = {"keys_strings": labels} if text else {"keys_int64s": [int(label) for label in labels]}
        self._node("LabelEncoder", [line], [place], domain="ai.onnx.ml", values_int64s=list(range(len(labels))), **keys)

    def _shaped(self, value: str, spec: TensorSpec, name: str) -> None:
        """A value in the shape and type of an answer."""
        import onnx

        shaped = self._name("shaped")
        self._node("Reshape", [value, self._constant(np.array(spec.shape, dtype=np.int64))], [shaped])
        self.nodes.append(onnx.helper.make_node("Cast", [shaped], [name], to=_element(spec.datatype)))

    def _cast(self, value: str, datatype: str) -> str:
        name = self._name("cast")
        self._node("Cast", [value], [name], to=_element(datatype))
        return name

    def _labels(self, task: Task) -> str:
        import onnx

        labels = task.label_array
        if labels.dtype != object:
            return self._constant(labels)
        name = self._name("labels")
        texts: Any = [str(label).encode() for label in labels]
        self.constants.append(onnx.helper.make_tensor(name, onnx.TensorProto.STRING, [len(labels)], texts))
        return name

    def _constant(self, values: np.ndarray[Any, Any]) -> str:
        import onnx

        name = self._name("constant")
        self.constants.append(onnx.numpy_helper.from_array(values, name))
        return name

    def _name(self, what: str) -> str:
        return f"{self._inner}//answers/{what}{len(self.nodes) + len(self.constants)}"

    def _node(self, kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> None:
        import onnx

        self.nodes.append(onnx.helper.make_node(kind, inputs, outputs, **attributes))
