"""Makes an ONNX file of a model of Keras or TensorFlow, and answers rows with the model itself.

``python -m maas_magics.core.importers.tensorflow.convert FILE WORK`` writes ``WORK/model.onnx`` and a line. After one
that it gets, it reads ``WORK/inputs.npz`` and writes ``WORK/answers.npz``. What is refused is in ``WORK/refused.json``.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from maas_magics.api.errors import MaasError, ModelError
from maas_magics.core.importers.tensorflow.guard import check_keras, check_saved

OPSET = 18


@dataclass(frozen=True)
class Source:
    """A model of TensorFlow.

    Attributes
    ----------
    specs : dict of str to TensorSpec
        What it takes.
    outputs : list of str
        Names of what it answers.
    call : callable
        From tensors by the names of the inputs to the answers in their order.
    """

    specs: Mapping[str, Any]
    outputs: list[str]
    call: Callable[[Mapping[str, Any]], list[Any]]


def open_keras(file: Path) -> Source:
    """A model of a file of Keras, whose classes are Keras's own.

    Parameters
    ----------
    file : Path
        ``.keras`` or ``.h5``.
    """
    check_keras(file)
    import keras
    import tensorflow as tf

    model: Any = keras.models.load_model(file, compile=False, safe_mode=True)
    if not model.built or not getattr(model, "inputs", None):
        raise ModelError(
            f"{file} does not say what its model takes.", "Build it before it is saved: model.build(SHAPE)"
        )
    specs = {one.name: tf.TensorSpec(one.shape, one.dtype) for one in model.inputs}
    found = list(getattr(model, "output_names", ())) or [model.layers[-1].name]

    def call(given: Mapping[str, Any]) -> list[Any]:
        values = [given[name] for name in specs]
        return list(tf.nest.flatten(model(values if len(values) > 1 else values[0], training=False)))

    return Source(specs, found, call)


def open_saved(folder: Path) -> Source:
    """A model of a SavedModel, as its signature asks it.

    Parameters
    ----------
    folder : Path
        The SavedModel.
    """
    name = check_saved(folder)
    import tensorflow as tf

    loaded = tf.saved_model.load(str(folder))
    function = loaded.signatures[name]
    outputs = sorted(function.structured_outputs)

    def call(given: Mapping[str, Any]) -> list[Any]:
        answers = loaded.signatures[name](**given)  # variables live as long as what was loaded
        return [answers[each] for each in outputs]

    return Source(function.structured_input_signature[1], outputs, call)


def converted(source: Source) -> Any:
    """The ONNX model of a model of TensorFlow.

    Parameters
    ----------
    source : Source
        The model.
    """
    import tensorflow as tf
    from tf2onnx import convert, tf_loader

    specs = [
        tf.TensorSpec(spec.shape, spec.dtype, name=f"in{place}") for place, spec in enumerate(source.specs.values())
    ]

    def asked(*given: Any) -> list[Any]:
        return [tf.identity(one) for one in source.call(dict(zip(source.specs, given, strict=True)))]

    traced = tf.function(asked, autograph=False).get_concrete_function(*specs)
    inputs = [f"in{place}:0" for place in range(len(specs))]  # without constants that it captured
    outputs = [one.name for one in traced.outputs]
    frozen = tf_loader.from_function(traced, inputs, outputs)
    model, _ = convert.from_graph_def(frozen, input_names=inputs, output_names=outputs, opset=OPSET)
    _rename(model.graph, dict(zip((*inputs, *outputs), (*source.specs, *source.outputs), strict=True)))
    return model


def _rename(graph: Any, names: Mapping[str, str]) -> None:
    """Give the inputs and outputs of a graph their names, and those out of their way that have them already."""
    inner = {each for node in graph.node for each in (*node.input, *node.output)} - set(names)
    called = {name: f"{name}//" for name in inner & set(names.values())} | dict(names)
    for value in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
        value.name = called.get(value.name, value.name)
    for node in graph.node:
        node.input[:] = [called.get(name, name) for name in node.input]
        node.output[:] = [called.get(name, name) for name in node.output]
        for attribute in node.attribute:
            for part in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                _rename(part, called)


def main(file: str, work: str) -> None:
    """Convert a model, then answer rows with it."""
    import onnx

    path = Path(file)
    source = open_saved(path) if path.is_dir() else open_keras(path)
    onnx.save(converted(source), str(Path(work) / "model.onnx"))
    print("made", flush=True)
    if not sys.stdin.readline():  # nobody asks
        return
    import tensorflow as tf

    with np.load(Path(work) / "inputs.npz") as given:
        rows = {name: given[f"in {name}"] for name in source.specs}
    answers = source.call({name: tf.constant(values, source.specs[name].dtype) for name, values in rows.items()})
    found: dict[str, Any] = {
        f"out {name}": np.asarray(values) for name, values in zip(source.outputs, answers, strict=True)
    }
    np.savez(Path(work) / "answers.npz", **found)


if __name__ == "__main__":
    os.environ |= {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    try:
        main(*sys.argv[1:])
    except MaasError as error:
        (Path(sys.argv[2]) / "refused.json").write_text(json.dumps([error.message, error.hint]), encoding="utf-8")
        sys.exit(error.message)
    except Exception as error:  # TensorFlow, Keras and tf2onnx raise whatever they meet
        sys.exit(" ".join(f"{type(error).__name__}: {error}".split())[:300])
