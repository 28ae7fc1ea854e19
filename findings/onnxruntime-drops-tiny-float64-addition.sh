#!/usr/bin/env bash
# ONNX Runtime 1.32.0 (onnx 1.23.2, numpy 2.4.6): its graph optimisation leaves out an `Add` of a float64 constant that
# is smaller than what float32 can hold, as if it were 0, so that a valid model answers other numbers than it says.
# Seen, for x = [2e-60, 5e-60] and c = -1e-60: -(-x + c) is [3e-60, 6e-60] with the optimisation switched off, and
# [2e-60, 5e-60] as sessions are by default. An `Add` next to the graph's own input and output is kept.
# Exits 1 if the behaviour has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
cat >"$work/run.py" <<'PY'
import sys

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper


def answer(constant, level):
    graph = helper.make_graph(
        [
            helper.make_node("Neg", ["x"], ["a"]),
            helper.make_node("Add", ["a", "c"], ["b"]),
            helper.make_node("Neg", ["b"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.DOUBLE, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.DOUBLE, ["n"])],
        [numpy_helper.from_array(np.array([constant]), "c")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    model.ir_version = 10
    onnx.checker.check_model(model, full_check=True)
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": np.array([2e-60, 5e-60])})[0]


off, on = ort.GraphOptimizationLevel.ORT_DISABLE_ALL, ort.GraphOptimizationLevel.ORT_ENABLE_ALL
plain, optimised = answer(-1e-60, off), answer(-1e-60, on)
print("onnxruntime", ort.__version__)
print("-(-x + c), c = -1e-60, optimisation off:", plain)
print("-(-x + c), c = -1e-60, optimisation on: ", optimised)
seen = np.allclose(plain, [3e-60, 6e-60], rtol=1e-12, atol=0) and np.array_equal(optimised, [2e-60, 5e-60])
sys.exit(0 if seen else "the behaviour has changed")
PY
"$work/venv/bin/python" "$work/run.py"
