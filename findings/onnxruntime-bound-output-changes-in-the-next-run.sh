#!/usr/bin/env bash
# onnxruntime 1.32.0: an output that is bound to the processor without a buffer of one's own (bind_output(name, "cpu")) and
# read by get_outputs()[0].numpy() is no copy: the next run with the same binding writes into the array that was handed
# out. session.run and copy_outputs_to_cpu() of the same binding give arrays that stay. Guess before: numpy() copies, as it
# does for values of other devices, or the binding makes a new output for each run, since no buffer was given.
#
# Seen, squares of 0, 1, 2, 3, then a run on 9, 9, 9, 9:
#   get_outputs()[0].numpy(): 0 1 4 9, then 81 81 81 81 in the first array
#   copy_outputs_to_cpu()[0]: 0 1 4 9, and still
# So logits that are kept while the next token is computed, as in a loop over several answers, are those of another one,
# with no error; they are copied before the next run.
# Exits 1 if the behaviour has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
cd "$work"
cat >run.py <<'PY'
import sys

import numpy as np
import onnxruntime
from onnx import TensorProto, helper

row = ["rows"]
graph = helper.make_graph(
    [helper.make_node("Mul", ["x", "x"], ["y"])],
    "squares",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, row)],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, row)],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
model.ir_version = 8
session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
ways = {
    "get_outputs()[0].numpy()": lambda bound: bound.get_outputs()[0].numpy(),
    "copy_outputs_to_cpu()[0]": lambda bound: bound.copy_outputs_to_cpu()[0],
}
changed = {}
for name, read in ways.items():
    bound = session.io_binding()
    bound.bind_output("y", "cpu")
    bound.bind_cpu_input("x", np.arange(4, dtype=np.float32))
    session.run_with_iobinding(bound)
    held = read(bound)
    before = held.copy()
    bound.bind_cpu_input("x", np.full(4, 9, dtype=np.float32))
    session.run_with_iobinding(bound)
    changed[name] = not np.array_equal(held, before)
    print(f"{name}: {before}, after the next run {held}")
sys.exit(0 if list(changed.values()) == [True, False] else "the behaviour has changed")
PY
"$work/venv/bin/python" run.py
