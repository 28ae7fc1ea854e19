#!/usr/bin/env bash
# torch 2.13.0: once a `torch.cond` has run under `FlopCounterMode`, which counts it and answers rightly, every later
# `torch.cond` with the same branches in the process raises `Unsupported: torch.* op returned non-Tensor`, though the
# counting is over. It works again after `torch.compiler.reset()`.
# Seen: the answer within the mode is right; without it, twice, the error; after the reset, the right answer.
# Exits 1 if the behaviour has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
cat >"$work/run.py" <<'PY'
import sys
import warnings

import torch
from torch.utils.flop_counter import FlopCounterMode

warnings.simplefilter("ignore")
rows = torch.ones(3)


def asked():
    try:
        found = torch.cond(rows.sum() > 0, lambda x: x.sin(), lambda x: x * 2, (rows,))
        return "right" if torch.allclose(found, rows.sin()) else "wrong"
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"


told = {"before": asked()}
with FlopCounterMode(display=False):
    told["while flops are counted"] = asked()
told["after"], told["once more"] = asked(), asked()
torch.compiler.reset()
told["after a reset"] = asked()
print("torch", torch.__version__)
for when, what in told.items():
    print(f"{when}: {what}")
error = "Unsupported: torch.* op returned non-Tensor"
seen = list(told.values()) == ["right", "right", error, error, "right"]
sys.exit(0 if seen else "the behaviour has changed")
PY
"$work/venv/bin/python" "$work/run.py"
