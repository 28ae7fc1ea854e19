"""ONNX: raw columns in, answers and probabilities out, preprocessing and labels inside the graph.

Imports torch only to write a file, so that opening one takes a moment.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from maas_magics.api.errors import ExportError, require
from maas_magics.api.signature import NUMPY, Signature, TensorSpec
from maas_magics.core.data.arrow import Array
from maas_magics.core.exporters import Run, exporters
from maas_magics.core.exporters.examples import example
from maas_magics.core.features.processor import Processor
from maas_magics.core.graphs.onnx_names import apart, clear, clear_graph, prefix
from maas_magics.core.seal.files import contents, put
from maas_magics.core.tasks.base import Task

if TYPE_CHECKING:
    from maas_magics.core.graph_model import GraphModel
    from maas_magics.core.model import Model

OPSET = 20
ML_OPSET = 4


class Onnx:
    """torch's own exporter for the numbers, label encoders joined before it for text, labels after it."""

    file = "model.onnx"
    isolated = True
    sealable = True

    def export(self, model: Model, file: Path) -> Signature:
        """Write ``model`` as one ONNX file.

        A column named like an answer, such as ``prediction``, gets ``_`` behind its name, for the values of a
        graph must differ in name.

        Raises
        ------
        ExportError
            If torch cannot trace the network.
        """
        from maas_magics.core.graph_model import GraphModel

        if isinstance(model, GraphModel):
            return _copied(model, file)
        require("onnxscript", "onnx onnxscript", "The ONNX export")
        import onnx

        processor, answers = model.processor, model.manifest.answers
        entries = processor.entries
        raw = apart([spec.name for spec in entries], {spec.name for spec in answers.specs})
        inner = "core"
        while any(name.startswith(f"{inner}/") for name in raw):
            inner += "_"
        core = core_of(model)
        names = [f"{inner}/in{i}" for i in range(len(processor.features))]
        decoded = answers.decoded_spec.name
        prefix(core.graph, inner, {""} if answers.parts else {"", decoded})
        after = _Heads(answers, f"{inner}/{decoded}", inner) if answers.parts else _Labels(answers, decoded, inner)
        inputs = [
            onnx.helper.make_tensor_value_info(name, _element(spec.datatype), _axes(spec), doc_string=spec.meaning)
            for name, spec in zip(raw, entries, strict=True)
        ]
        before, handed = _encoders(processor, raw, names)
        outputs = [
            onnx.helper.make_tensor_value_info(spec.name, _element(spec.datatype), _axes(spec))
            for spec in answers.specs
        ]
        graph = onnx.helper.make_graph(
            [*handed, *before, *core.graph.node, *after.nodes],
            "model",
            inputs,
            outputs,
            [*core.graph.initializer, *after.constants],
        )
        domains = {entry.domain: entry.version for entry in core.opset_import} | {"ai.onnx.ml": ML_OPSET}
        whole = onnx.helper.make_model(
            graph,
            opset_imports=[onnx.helper.make_opsetid(domain, version) for domain, version in domains.items()],
            functions=list(core.functions),
            producer_name="maas_magics",
        )
        whole.ir_version = core.ir_version
        # ONNX Runtime shows these alone, as custom_metadata_map.
        told = {f"input {value.name}": value.doc_string for value in inputs if value.doc_string}
        onnx.helper.set_model_props(whole, told)
        if whole.ByteSize() >= 2**31 - 1:
            raise ExportError("The network is larger than the 2 GB that one ONNX file can hold.", "--format pt2")
        try:
            onnx.checker.check_model(whole)
        except onnx.checker.ValidationError as error:
            raise ExportError(
                f"torch made no valid ONNX model: {str(error).splitlines()[0]}", "--format pt2"
            ) from error
        put(file, whole.SerializeToString())
        specs = [msgspec.structs.replace(spec, name=name) for name, spec in zip(raw, entries, strict=True)]
        return Signature(tuple(specs), answers.specs)

    def load(self, file: Path, version: Path, model: Model | None) -> Run:
        """Open the file in ONNX Runtime."""
        from maas_magics.core.runtimes.engine import Engine
        from maas_magics.core.store.manifest import read_manifest

        engine = Engine(file)
        answers = read_manifest(version).answers

        def run(raw: Sequence[Array]) -> Array:
            return answers.decoded_from(engine.run(raw))

        return run


def _copied(model: GraphModel, file: Path) -> Signature:
    """Write the graph that a version is."""
    for part in model.file.parent.glob(f"{model.file.name}*"):
        put(file.parent / part.name.replace(model.file.name, file.name), contents(part))
    names = (value.name for value in model.engine.session.get_inputs())
    pairs = zip(names, model.processor.entries, strict=True)
    specs = tuple(msgspec.structs.replace(spec, name=name) for name, spec in pairs)
    return Signature(specs, model.manifest.answers.specs)


def core_of(model: Model) -> Any:
    """The graph from numbers and codes to decoded answers, as torch exports it, without traces of this machine."""
    import onnx
    import torch

    from maas_magics.core.compat.export import operators_kept
    from maas_magics.core.graphs.capture import plain_attention, traced
    from maas_magics.core.graphs.reasons import ANY_ROWS, hint, is_data_dependent, told
    from maas_magics.core.networks.modules import title_of
    from maas_magics.core.tracing import suppress_torch_logging

    inputs, module = example(model), model.exported()
    names = [f"in{i}" for i in range(len(inputs))]
    output = model.manifest.answers.decoded_spec.name
    axes = [
        {0: "batch"} | {axis: f"length{place}_{axis}" for axis in spec.open_axes}
        for place, spec in enumerate(model.processor.entries)
    ]
    with suppress_torch_logging(), plain_attention(), operators_kept():
        try:
            program = torch.onnx.export(
                module,
                inputs,
                dynamo=True,
                dynamic_shapes=(tuple(axes),),
                opset_version=OPSET,
                external_data=False,
                verbose=False,
                input_names=names,
                output_names=[output],
                optimize=True,
            )
            if program is None:
                raise ExportError("torch made no ONNX program.", "--format pt2")
            proto = program.model_proto
            _sharpen(proto.graph, program.exported_program)
        except Exception as error:  # torch raises many unrelated kinds here
            by_trace = (
                None
                if is_data_dependent(error)
                else traced(module, inputs, names, output, OPSET, dict(zip(names, axes, strict=True)))
            )
            if by_trace is None:
                raise ExportError(f"torch cannot trace {title_of(model.net)}: {told(error)}", hint(error)) from error
            proto = onnx.load_from_string(by_trace)
    batch = proto.graph.input[0].type.tensor_type.shape.dim[0]
    if not batch.dim_param:
        raise ExportError(
            f"torch fixed the batch of {title_of(model.net)} at {batch.dim_value} rows.",
            ANY_ROWS,
        )
    for part in (proto, *proto.functions, *(node for function in proto.functions for node in function.node)):
        clear(part)
    clear_graph(proto.graph)
    return proto


def _sharpen(graph: Any, program: Any) -> None:
    """Give Python's numbers back the digits beyond float32 that torch's exporter takes from them.

    A day's phase is 2π times some 20,000 days: rounded to float32, the factor alone would turn it by a thousandth.
    """
    import onnx
    import torch

    exact: dict[float, float] = {}
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            for value in (*node.args, *node.kwargs.values()):
                if isinstance(value, float) and abs(value) < float(np.finfo(np.float32).max):
                    exact[float(np.float32(value))] = value
    for tensor in graph.initializer:
        if tensor.data_type == onnx.TensorProto.DOUBLE:
            rounded = onnx.numpy_helper.to_array(tensor)
            if rounded.size == 1 and rounded.item() in exact:
                sharp = np.full(rounded.shape, exact[rounded.item()])
                tensor.CopyFrom(onnx.numpy_helper.from_array(sharp, tensor.name))


def _axes(spec: TensorSpec) -> list[int | str]:
    """Shape of a value, with names for what is free."""
    return ["batch", *(f"{spec.name}/{axis}" if size < 0 else size for axis, size in enumerate(spec.shape[1:], 1))]


def _element(datatype: str) -> int:
    import onnx

    if datatype == "BYTES":
        return int(onnx.TensorProto.STRING)
    return int(onnx.helper.np_dtype_to_tensor_dtype(np.dtype(NUMPY[datatype])))


def _encoders(processor: Processor, raw: Sequence[str], names: Sequence[str]) -> tuple[list[Any], list[Any]]:
    """A label encoder for each column of texts, an identity for each other one."""
    import onnx

    encoders, entries = [], []
    for feature, entry, name in zip(processor.features, raw, names, strict=True):
        vocabulary = feature.vocabulary
        if vocabulary is not None:
            encoders.append(
                onnx.helper.make_node(
                    "LabelEncoder",
                    [entry],
                    [name],
                    domain="ai.onnx.ml",
                    keys_strings=[text for text, _ in vocabulary],
                    values_int64s=[code for _, code in vocabulary],
                    default_int64=0,
                )
            )
        else:
            entries.append(onnx.helper.make_node("Identity", [entry], [name]))
    return encoders, entries


class _Labels:
    """Nodes that pick the label of the largest probability."""

    def __init__(self, answers: Task, decoded: str, inner: str, prediction: str = "prediction") -> None:
        import onnx

        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        if not answers.decision:
            return
        if answers.decision == "each":
            self.constants = [onnx.helper.make_tensor(f"{inner}/labels/half", onnx.TensorProto.FLOAT, [], [0.5])]
            labels, holds = answers.label_array, f"{inner}/labels/holds"
            named = prediction if labels.dtype == bool else holds
            self.nodes = [onnx.helper.make_node("GreaterOrEqual", [decoded, f"{inner}/labels/half"], [named])]
            if named == holds:
                to = onnx.helper.np_dtype_to_tensor_dtype(labels.dtype)
                self.nodes.append(onnx.helper.make_node("Cast", [holds], [prediction], to=to))
            return
        labels = answers.label_array
        name = f"{inner}/labels/values"
        texts: Any = [str(label).encode() for label in labels]
        self.constants = [
            onnx.helper.make_tensor(name, onnx.TensorProto.STRING, [len(labels)], texts)
            if labels.dtype == object
            else onnx.numpy_helper.from_array(labels, name)
        ]
        self.nodes = [
            onnx.helper.make_node("ArgMax", [decoded], [f"{inner}/labels/index"], axis=-1, keepdims=0),
            onnx.helper.make_node("Gather", [f"{inner}/labels/values", f"{inner}/labels/index"], [prediction], axis=0),
        ]


class _Heads:
    """Nodes that part the answers of several heads, and pick the label of each that has labels."""

    def __init__(self, answers: Task, decoded: str, inner: str) -> None:
        import onnx

        widths = [math.prod(specs[-1].shape[1:]) for specs in answers.part_specs]
        sizes = onnx.numpy_helper.from_array(np.array(widths, dtype=np.int64), f"{inner}/heads/sizes")
        parts = [f"{inner}/heads/part{i}" for i in range(len(answers.parts))]
        self.nodes: list[Any] = [onnx.helper.make_node("Split", [decoded, sizes.name], parts, axis=1)]
        self.constants: list[Any] = [sizes]
        for place, (head, part, specs) in enumerate(zip(answers.parts, parts, answers.part_specs, strict=True)):
            spec, own = specs[-1], f"{inner}/head{place}"
            shape = onnx.numpy_helper.from_array(np.array(spec.shape, dtype=np.int64), f"{own}/shape")
            self.constants.append(shape)
            self.nodes += [
                onnx.helper.make_node("Reshape", [part, shape.name], [f"{own}/shaped"]),
                onnx.helper.make_node("Cast", [f"{own}/shaped"], [spec.name], to=_element(spec.datatype)),
            ]
            labels = _Labels(head, spec.name, own, specs[0].name)
            self.nodes += labels.nodes
            self.constants += labels.constants


exporters.register("onnx")(Onnx())
