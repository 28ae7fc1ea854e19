#!/usr/bin/env bash
# onnxruntime 1.32.0, onnx 1.22.0: quantize_dynamic takes a model in memory, and writes all its weights into a file.
#
# The function takes a ModelProto as well as a path, so one may expect that a model which was only ever in memory (it
# was decrypted there, say) is quantised there, and that the one file is the one that was asked for. It saves the whole
# model under the system's temporary folder, loads it again, and removes it: the weights, readable, lie
# on a disk for a while. A process that is killed meanwhile leaves them there.
#
# Seen: 2 files under the temporary folder, one after the other, each with all 262,144 bytes of the float weight in it;
# both are removed at the end.
set -euo pipefail
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
python3 -m venv "$home/venv"
"$home/venv/bin/pip" install -q "onnxruntime==1.32.0" "onnx==1.22.0" "numpy==2.3.5" "sympy==1.14.0"
mkdir "$home/tmp"
cat > "$home/check.py" <<'PY'
import logging
import os
import tempfile
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import quantize_dynamic

logging.disable()
weight = np.random.default_rng(0).normal(size=(256, 256)).astype(np.float32)
graph = helper.make_graph(
    [helper.make_node("MatMul", ["x", "w"], ["y"])],
    "g",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 256])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 256])],
    [numpy_helper.from_array(weight, "w")],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
temporary = Path(tempfile.gettempdir())
seen = []
plain = os.unlink


def watched(path, *given, **named):
    """Files as they are when they are removed."""
    folder = named.get("dir_fd")
    file = Path(path) if folder is None else Path(f"/proc/self/fd/{folder}") / path
    if file.is_file() and weight.tobytes() in file.read_bytes():
        seen.append(file.name)
    return plain(path, *given, **named)


os.unlink = watched
quantize_dynamic(model, Path(os.environ["HOME_OF_IT"]) / "small.onnx")
left = [path for path in temporary.rglob("*") if path.is_file() and weight.tobytes() in path.read_bytes()]
print(f"files with the float weight that were written and removed: {len(seen)}; left: {len(left)}")
assert len(seen) == 2 and not left, "changed"
PY
HOME_OF_IT="$home" TMPDIR="$home/tmp" "$home/venv/bin/python" "$home/check.py"
