"""What it takes to open an encrypted model, beside the readable one: seconds and memory, each in a process of its own.

A start is what opening a version takes: its digest (an encrypted one has tags), the session of ONNX Runtime, one answer.
Weights are random;
those of 2 GB and more stand beside the graph, as those of models that write do.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import tempfile
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.measure import fresh, in_turns, ratios, table

WIDTH = 2_048
"""Inputs and outputs of a layer, of 16 MB."""

START = """
import hashlib, json, sys, time
from pathlib import Path
import numpy as np
from maas_magics.core.runtimes.engine import Engine
from maas_magics.core.seal.files import is_sealed
import cryptography.hazmat.primitives.ciphers.aead

def memory(what):
    return next(1024 * int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(what))

file = Path(sys.argv[1])
before, wall, cpu = memory("VmRSS"), time.perf_counter(), time.process_time()
for part in sorted(file.parent.glob("model.onnx*")) if not is_sealed(file) else ():
    with part.open("rb") as stream:
        hashlib.file_digest(stream, "sha256")
engine = Engine(file)
engine.run([np.ones((1, WIDTH), np.float32)])
told = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "resident": memory("VmRSS") - before}
told["most"] = memory("VmHWM") - before
print(json.dumps(told))
""".replace("WIDTH", str(WIDTH))


def write(folder: Path, megabytes: int, beside: bool, sealed: bool) -> int:
    """Write a graph of layers with random weights; its bytes."""
    from onnx import TensorProto, helper, numpy_helper

    from maas_magics.core.graphs.beside import save_beside
    from maas_magics.core.seal.envelope import begin
    from maas_magics.core.seal.files import put

    folder.mkdir()
    if sealed:
        begin(folder)
    random = np.random.default_rng(0)
    layers = max(1, megabytes * 2**20 // (4 * WIDTH**2))
    weights = [random.standard_normal((WIDTH, WIDTH), np.float32) / 45 for _ in range(layers)]
    nodes = [helper.make_node("MatMul", [f"x{i}", f"w{i}"], [f"x{i + 1}"]) for i in range(layers)]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", WIDTH]) for name in ("x0", f"x{layers}")]
    tensors = [numpy_helper.from_array(values, f"w{i}") for i, values in enumerate(weights)]
    graph = helper.make_graph(nodes, "layers", ends[:1], ends[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    if beside:
        save_beside(model, folder / "model.onnx")
    else:
        put(folder / "model.onnx", model.SerializeToString())
    return sum(path.stat().st_size for path in folder.glob("model.onnx*"))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser("sealed", description=__doc__)
    parser.add_argument("--megabytes", type=int, nargs="+", default=[100, 400], help="sizes of the weights")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    os.environ["MAAS_KEY"] = base64.b64encode(os.urandom(32)).decode()
    rows = []
    for megabytes in options.megabytes:
        for beside in (False, True) if megabytes < 1_900 else (True,):
            with tempfile.TemporaryDirectory() as place:
                size = 0
                for kind in ("plain", "sealed"):
                    size = write(Path(place) / kind, megabytes, beside, kind == "sealed")
                told: dict[str, list[dict[str, float]]] = {"plain": [], "sealed": []}

                def start(kind: str, place: str = place, told: dict[str, list[dict[str, float]]] = told) -> float:
                    told[kind].append(json.loads(fresh(START, f"{place}/{kind}/model.onnx")))
                    return told[kind][-1]["wall"]

                found = in_turns(
                    {"plain": lambda run=start: run("plain"), "sealed": lambda run=start: run("sealed")},
                    options.rounds,
                )
            of = {(kind, what): median(one[what] for one in told[kind]) for kind in told for what in told[kind][0]}
            rows.append(
                (
                    f"{size / 1e6:,.0f} MB{', weights beside' if beside else ''}",
                    f"{of['plain', 'wall']:.2f} s",
                    f"{of['sealed', 'wall']:.2f} s",
                    f"{ratios(found, 'plain')['sealed']:.2f} ×",
                    f"{of['sealed', 'cpu'] / of['plain', 'cpu']:.2f} ×",
                    *(f"{of[kind, 'resident'] / size:.2f} ×" for kind in told),
                    *(f"{of[kind, 'most'] / size:.2f} ×" for kind in told),
                )
            )
    table(
        "Start of an encrypted model",
        ("weights", "readable", "encrypted", "ratio", "CPU", "resident", "encrypted", "at most", "encrypted"),
        rows,
        f"Medians of {options.rounds} turns; memory above that of the process before, in sizes of the files.",
    )


if __name__ == "__main__":
    main()
