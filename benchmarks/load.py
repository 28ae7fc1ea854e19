"""CPU seconds of ``%load_ext maas_magics`` over an IPython shell without it."""

from __future__ import annotations

import json
from statistics import median

from benchmarks.measure import fresh, in_turns, table

ROUNDS = 15
HEAVY = ("torch", "onnxruntime", "onnx", "pandas", "pyarrow", "matplotlib.pyplot", "ipywidgets", "anywidget")
TARGET = 0.10

SHELL = """
import json, sys, time
import ipykernel.zmqshell
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
before = set(sys.modules)
begun = time.process_time()
if sys.argv[1] == "with":
    shell.run_line_magic("load_ext", "maas_magics")
print(json.dumps([time.process_time(), time.process_time() - begun, sorted(set(sys.modules) - before)]))
"""


def main() -> None:
    modules: set[str] = set()
    magic: list[float] = []

    def process(how: str) -> float:
        whole, loading, fresh_modules = json.loads(fresh(SHELL, how))
        if how == "with":
            modules.update(fresh_modules)
            magic.append(loading)
        return float(whole)

    found = in_turns({"without": lambda: process("without"), "with": lambda: process("with")}, ROUNDS)
    added = median(found["with"]) - median(found["without"])
    heavy = [name for name in HEAVY if name in modules]
    table(
        "%load_ext maas_magics",
        ("fresh process with ipykernel loaded", "CPU s, median", "target"),
        [
            ("IPython", f"{median(found['without']):.3f}", ""),
            ("IPython and `%load_ext maas_magics`", f"{median(found['with']):.3f}", ""),
            ("added", f"{added:.3f}", f"≤ {TARGET:.2f}"),
            ("the magic alone", f"{median(magic):.3f}", f"≤ {TARGET:.2f}"),
        ],
        f"Modules imported: {len(modules)}; heavy ones among them: {', '.join(heavy) or 'none'}.",
    )
