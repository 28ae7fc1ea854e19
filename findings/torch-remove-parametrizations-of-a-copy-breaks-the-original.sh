#!/usr/bin/env bash
# torch 2.13.0: `remove_parametrizations` on a deep copy of a module breaks the module that it was copied from. The
# weight of a parametrized module is a property of a class made for it; copy.deepcopy shares that class with the copy,
# and the removal deletes the property from the class. What is left of the original has `parametrizations.weight`, but
# no `weight`: its forward fails, and its state_dict looks as before.
#
# Seen: the copy answers; the original, which nothing was done to: AttributeError: 'ParametrizedLinear' object has no
# attribute 'weight'.
# Exits 1 if the behaviour has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
cat >"$work/run.py" <<'PY'
import copy
import sys

import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

net = parametrizations.spectral_norm(nn.Linear(3, 2)).eval()
x = torch.randn(4, 3)
before, keys = net(x), list(net.state_dict())
twin = copy.deepcopy(net)
parametrize.remove_parametrizations(twin, "weight")
assert torch.allclose(twin(x), before)
assert list(net.state_dict()) == keys and parametrize.is_parametrized(net)
try:
    net(x)
except AttributeError as error:
    print("the original, after its copy lost its parametrization:", error)
    sys.exit(0 if "no attribute 'weight'" in str(error) else str(error))
sys.exit("the behaviour has changed")
PY
"$work/venv/bin/python" "$work/run.py"
