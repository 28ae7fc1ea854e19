#!/usr/bin/env bash
# torch 2.13.0 (numpy 2.4.6): making the first optimizer of a process imports torch's whole compiler, although nothing is
# compiled: torch._dynamo, torch._inductor, torch.onnx, sympy, torch.distributed.tensor and FSDP, more than 800 modules, for
# about as many CPU seconds as `import torch` itself took. The methods of `Optimizer` that the compiler is to be kept off
# import it at their first call, to ask it for the wrapper. A `TorchDispatchMode` of one's own does it too, in its
# first operation.
# Seen: `import torch` 1,114 modules, none of these; `torch.optim.SGD(...)` 823 more, all of them (CPU seconds about 1.3 + 1.2);
# an addition within a dispatch mode brings the same 823.
# Exits 1 if the behaviour has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
cat >"$work/run.py" <<'PY'
import sys
import time

HEAVY = ("torch._dynamo", "torch._inductor", "torch.onnx", "sympy", "torch.distributed.tensor", "torch.distributed.fsdp")


def there():
    return [name for name in HEAVY if name in sys.modules]


begun = time.process_time()
import torch
from torch.utils._python_dispatch import TorchDispatchMode

plain, modules, took = there(), len(sys.modules), time.process_time() - begun


class Watching(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return function(*args, **(kwargs or {}))


print(f"torch {torch.__version__}: import torch: {modules} modules, {took:.1f} CPU s, of the compiler: {plain or 'none'}")
begun = time.process_time()
if sys.argv[1] == "optimizer":
    torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
else:
    with Watching():
        torch.zeros(2) + 1
after, more, took = there(), len(sys.modules) - modules, time.process_time() - begun
print(f"the first {sys.argv[1]}: {more} modules more, {took:.1f} CPU s more, of the compiler: {after or 'none'}")
sys.exit(0 if not plain and after == list(HEAVY) and more > 500 else "the behaviour has changed")
PY
for first in optimizer "dispatch mode"; do "$work/venv/bin/python" "$work/run.py" "$first"; done
