"""What a file of Keras or a SavedModel would do where it is opened, found before it is: code and files are refused.

Every class that a file names must be one of Keras's own that computes with tensors alone, and every operator that a
SavedModel would run one that tf2onnx knows. What a file holds besides, such as losses of its training, is not loaded.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from maas_magics.api.errors import ModelError

LARGEST = 64 * 2**20
"""Bytes of a description of layers."""

ROOMS = ("layers", "initializers", "regularizers", "constraints", "activations", "dtype_policies")
"""Modules of Keras whose public names a file may say."""

PLAIN = ("Functional", "Sequential", "Model", "DTypePolicy", "DTypePolicyMap")

TENSORS = ("__tuple__", "__keras_tensor__", "__tensor__", "__numpy__", "__slice__", "__ellipsis__", "__typespec__")
"""Names that Keras gives values."""

CODE = ("Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer")
"""Layers of Keras that hold code, or open files that do."""

SOURCES = (
    r"(keras|keras\.src\.(models|layers|ops|initializers|regularizers|constraints|activations|dtype_policies)(\.\w+)*)"
)
"""Modules of classes, besides those of `ROOMS`."""

STATE = ("ReadVariableOp", "VarHandleOp", "StatefulPartitionedCall", "PartitionedCall", "NoOp")
"""Operators that are gone once a graph is frozen."""

LOADED = ("_initialize", "_create_resource", "_destroy_resource", "initializer")
"""Functions of a SavedModel that run where it is loaded."""


def check_keras(file: Path) -> None:
    """Raise `ModelError` where a file of Keras names code, or files besides itself.

    Parameters
    ----------
    file : Path
        ``.keras`` or ``.h5``; only its description is read.
    """
    for found in _described(_zipped(file) if zipfile.is_zipfile(file) else _hierarchical(file)):
        _check_class(file, found)


def check_saved(folder: Path) -> str:
    """The signature of a SavedModel that is to be asked.

    Parameters
    ----------
    folder : Path
        The SavedModel; only its graph is read.

    Raises
    ------
    ModelError
        If it has none, or runs what is no operator of tensors.
    """
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel()
    try:
        saved.ParseFromString((folder / "saved_model.pb").read_bytes())
        graph = saved.meta_graphs[0]
    except Exception as error:  # protobuf raises its own kinds
        raise ModelError(f"{folder} is no SavedModel: {error}", "Give a folder as model.export writes it.") from None
    names = [name for name, one in graph.signature_def.items() if one.inputs and not name.startswith("__")]
    name = "serving_default" if "serving_default" in names else names[0] if len(names) == 1 else ""
    if not name or not graph.object_graph_def.nodes:
        what = f"has the signatures {', '.join(names) or 'none'}" if not name else "is of TensorFlow 1"
        raise ModelError(
            f"{folder} {what}; one of TensorFlow 2, 'serving_default', was expected.",
            f"python -m tf2onnx.convert --saved-model {folder} --signature_def NAME --output model.onnx",
        )
    odd = sorted(_run(graph, name) - _known())
    if odd:
        raise ModelError(
            f"{folder} would run {', '.join(odd[:5])}, for which ONNX has nothing. It was not loaded.",
            "Export the network alone: without tables, files and Python functions.",
        )
    return name


def _zipped(file: Path) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(file) as whole:
            if whole.getinfo("config.json").file_size > LARGEST:
                raise ValueError("its config.json is too large")
            with whole.open("config.json") as stream:
                found: dict[str, Any] = json.loads(stream.read(LARGEST))
                return found
    except (KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise _unreadable(file, error) from None


def _hierarchical(file: Path) -> dict[str, Any]:
    import h5py

    try:
        with h5py.File(file, "r") as whole:
            text = whole.attrs.get("model_config")
            _check_links(whole)
            if text is not None:
                found: dict[str, Any] = json.loads(text)
                return found
    except (ValueError, OSError) as error:
        raise _unreadable(file, error) from None
    raise ModelError(
        f"{file} holds weights alone, without the layers that they belong to.", "model.save('model.keras') writes both."
    )


def _check_links(whole: Any) -> None:
    """Raise `ValueError` where a part of a file lies in another one."""
    import h5py

    groups = [whole]
    while groups:
        group = groups.pop()
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ValueError(f"{name!r} is a link")
            part = group[name]
            if isinstance(part, h5py.Group):
                groups.append(part)
            elif part.external or part.is_virtual:
                raise ValueError(f"{name!r} lies in another file")


def _unreadable(file: Path, error: Exception) -> ModelError:
    why = " ".join(str(error).split())[:200]
    return ModelError(f"{file} is no file of Keras: {why}", "Give one as model.save('model.keras') writes it.")


def _described(part: Any) -> Iterator[dict[str, Any]]:
    """Every object that a description holds, without those of a training."""
    waiting = [part]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            if "class_name" in part:
                yield part
            waiting += [value for name, value in part.items() if name not in ("compile_config", "training_config")]
        elif isinstance(part, list):
            waiting += part


def _check_class(file: Path, found: dict[str, Any]) -> None:
    name, module, config = str(found["class_name"]), str(found.get("module") or ""), found.get("config")
    if name in TENSORS:
        return
    if name == "function":
        if not _is_public(str(config), "activations"):
            raise _code(file, f"the function {config!r}")
        return
    known = not module or module in map("keras.{}".format, ROOMS) or re.fullmatch(SOURCES, module)
    if name in CODE or not known:
        raise _code(file, f"{module}.{name}".lstrip("."))
    if isinstance(config, dict) and isinstance(config.get("vocabulary"), str):
        raise ModelError(f"{file} reads {config['vocabulary']!r}, a file besides it.", "Give the vocabulary as a list.")
    # operators between layers are written by their class, of which nothing is public
    if name not in PLAIN and not module.startswith("keras.src.ops.") and not _is_public(name, *ROOMS):
        raise _code(file, f"{module}.{name}".lstrip("."))


def _is_public(name: str, *rooms: str) -> bool:
    import keras

    return any(hasattr(getattr(keras, room), name) for room in rooms)


def _code(file: Path, what: str) -> ModelError:
    return ModelError(
        f"{file} holds {what}, which is code, or no layer of Keras; none of it is run.",
        f"Where you trust it: keras.models.load_model({file.name!r}, safe_mode=False).export('model.onnx', "
        "format='onnx')",
    )


def _run(graph: Any, name: str) -> set[str]:
    """Operators that run where a SavedModel is loaded, and where a signature of it is asked."""
    objects = graph.object_graph_def
    functions = {one.signature.name: one for one in graph.graph_def.library.function}
    places = [place for node in objects.nodes for each in node.saveable_objects.values()
              for place in (each.save_function, each.restore_function)]  # fmt: skip
    places += [child.node_id for node in objects.nodes for child in node.children if child.local_name in LOADED]
    signatures = [child.node_id for child in objects.nodes[0].children if child.local_name == "signatures"]
    places += [child.node_id for at in signatures for child in objects.nodes[at].children if child.local_name == name]
    waiting = [one for place in places for one in _functions(objects.nodes[place])]
    found: set[str] = set()
    seen: set[str] = set()
    while waiting:
        one = waiting.pop()
        if one in seen or one not in functions:
            continue
        seen.add(one)
        for node in functions[one].node_def:
            found.add(node.op)
            for value in node.attr.values():
                waiting += [each.name for each in (value.func, *value.list.func) if each.name]
    return found


def _functions(node: Any) -> Collection[str]:
    return (*node.function.concrete_functions, node.bare_concrete_function.concrete_function_name)


def _known() -> set[str]:
    """Operators that tf2onnx has a rule for, and those that hold variables."""
    from tf2onnx import tfonnx
    from tf2onnx.handler import tf_op

    assert tfonnx  # it registers the rules

    rules = {name for versions in tf_op.get_opsets().values() for version in versions for name in version}
    return {*rules, *STATE}
