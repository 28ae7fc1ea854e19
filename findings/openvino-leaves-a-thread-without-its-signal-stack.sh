#!/usr/bin/env bash
# openvino 2026.4.1: closing a model can leave the thread that opened it with a signal stack that is no memory any more.
#
# On Linux each `openvino.compile_model` (a core of its own) gives the calling thread another alternate stack for
# signals, and takes that memory away when the model's last reference goes. One may expect that the thread then has the
# stack that it had before (Python's `faulthandler` sets one, which test runners and kernels turn on). It has that again
# only where models are closed in the same thread, the last opened first. After two models were closed in the order in
# which they were opened, or one by another thread (as garbage collection does), the thread keeps the address of a stack
# that was unmapped. Python runs its handlers on that stack: a process that hears a signal then is at an end.
# Models of one `openvino.Core` that stays leave the stack where it is.
#
# Seen: unmapped after "closed in the order of opening" and "closed by another thread"; mapped with one core.
set -euo pipefail
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
python3 -m venv "$home/venv"
"$home/venv/bin/pip" install -q "openvino==2026.4.1" "numpy==2.3.5"
cat > "$home/check.py" <<'PY'
import ctypes
import faulthandler
import threading

import numpy as np
import openvino
from openvino import opset13


class Stack(ctypes.Structure):
    _fields_ = (("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


def mapped():
    stack = Stack()
    ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack))
    with open("/proc/self/maps") as maps:
        held = [[int(end, 16) for end in line.split()[0].split("-")] for line in maps]
    return any(first <= stack.start < last for first, last in held)


def model():
    x = opset13.parameter([-1, 3], np.float32)
    return openvino.Model([opset13.relu(x)], [x])


faulthandler.enable()
found = {"before": mapped()}
models = [openvino.compile_model(model(), "CPU")]
models.clear()
found["opened and closed"] = mapped()
models = [openvino.compile_model(model(), "CPU") for _ in range(2)]
del models[0]
del models[0]
found["closed in the order of opening"] = mapped()
models = [openvino.compile_model(model(), "CPU")]
other = threading.Thread(target=models.clear)
other.start()
other.join()
found["closed by another thread"] = mapped()
core = openvino.Core()
models = [core.compile_model(model(), "CPU") for _ in range(2)]
del models[0]
other = threading.Thread(target=models.clear)
other.start()
other.join()
found["one core, the same"] = mapped()
for what, there in found.items():
    print(f"{what}: the signal stack is {'mapped' if there else 'unmapped'}")
assert list(found.values()) == [True, True, False, False, True], "changed"
PY
"$home/venv/bin/python" -c 'import sys; sys.exit(sys.platform != "linux")' || { echo "only on Linux"; exit 0; }
"$home/venv/bin/python" "$home/check.py"
