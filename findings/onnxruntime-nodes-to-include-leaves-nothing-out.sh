#!/usr/bin/env bash
# onnxruntime 1.32.0, onnx 1.23.2: MatMulNBitsQuantizer(nodes_to_include=[...]) quantises the nodes that are named *and* all
# others of the kinds in op_types_to_quantize, which is every MatMul by default: it leaves nothing out. What the name says is
# what nodes_to_quantize of quantize_dynamic does, in the same package: these nodes, and no others. Guess before: the same.
#
# Seen, for two products a and b of which a is named:
#   MatMulNBitsQuantizer(nodes_to_include=["a"]): MatMulNBits, MatMulNBits
#   MatMulNBitsQuantizer(nodes_to_exclude=["b"]): MatMulNBits, MatMul
#   quantize_dynamic(nodes_to_quantize=["a"]): one MatMulInteger, one MatMul
# So whoever gives the last layer eight bits and the others four, by two passes, gets eight everywhere from the first one,
# and a file twice as large; the others have to be excluded by name.
# Exits 1 if the behaviour has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet onnxruntime==1.32.0 onnx==1.23.2 onnx-ir==0.2.0 numpy==2.4.6
cd "$work"
cat >run.py <<'PY'
import copy
import logging
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import quantize_dynamic
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

logging.disable(logging.WARNING)
random = np.random.default_rng(0)
square = [numpy_helper.from_array(random.normal(size=(64, 64)).astype("float32"), name) for name in ("v", "w")]
graph = helper.make_graph(
    [helper.make_node("MatMul", ["x", "v"], ["z"], "a"), helper.make_node("MatMul", ["z", "w"], ["y"], "b")],
    "two",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 64])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 64])],
    square,
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
model.ir_version = 10


def products(made):
    return [node.op_type for node in made.graph.node if "MatMul" in node.op_type]


seen = []
for given in ({"nodes_to_include": ["a"]}, {"nodes_to_exclude": ["b"]}):
    quantizer = MatMulNBitsQuantizer(copy.deepcopy(model), bits=8, block_size=32, is_symmetric=True, **given)
    quantizer.process()
    seen.append(products(quantizer.model.model))
    print(f"MatMulNBitsQuantizer({given}): {', '.join(seen[-1])}")
onnx.save(model, "plain.onnx")
quantize_dynamic("plain.onnx", "dynamic.onnx", nodes_to_quantize=["a"])
seen.append(sorted(products(onnx.load("dynamic.onnx"))))
print(f"quantize_dynamic(nodes_to_quantize=['a']): {', '.join(seen[-1])}")
wanted = [["MatMulNBits"] * 2, ["MatMulNBits", "MatMul"], ["MatMul", "MatMulInteger"]]
sys.exit(0 if seen == wanted else "the behaviour has changed")
PY
"$work/venv/bin/python" run.py
