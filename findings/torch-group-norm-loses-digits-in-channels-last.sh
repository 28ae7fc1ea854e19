#!/usr/bin/env bash
# torch 2.13.0 (CPU): GroupNorm in fp32 loses digits when its input is in channels-last order, though the numbers are the
# same. For contiguous inputs its kernel updates mean and variance by Welford's rule. For channels-last it computes the
# variance as E[x²] − E[x]², in fp32, which cancels where a group's level is large against its spread.
#
# Seen, for 18 images of 8 channels of 32×32, spread 1, in 2 groups; error against fp64, relative to the true outputs:
#   level    0  contiguous 5.0e-08  channels-last 1.5e-07
#   level   10  contiguous 5.7e-07  channels-last 1.9e-05
#   level  100  contiguous 3.5e-06  channels-last 2.9e-03
#   level 1000  contiguous 3.7e-05  channels-last 3.9e-01
# So, `net.to(memory_format=torch.channels_last)`, advised for speed alone, may change answers by a third.
# ATEN_CPU_CAPABILITY=default and avx2 lose as much. Asserted: at 1000, a hundredth or more, and 100 × the contiguous.
# Exits 1 if the behaviour has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
cat >"$work/run.py" <<'PY'
import sys

import torch
from torch.nn.functional import group_norm

torch.manual_seed(0)
found = {}
for level in (0, 10, 100, 1000):
    x = torch.randn(18, 8, 32, 32) + level
    true = group_norm(x.double(), 2)
    orders = (x, x.contiguous(memory_format=torch.channels_last))
    assert torch.equal(*orders)
    found[level] = [float((group_norm(y, 2) - true).norm() / true.norm()) for y in orders]
    print(f"level {level:4}  contiguous {found[level][0]:.1e}  channels-last {found[level][1]:.1e}")
plain, last = found[1000]
sys.exit(0 if last > 0.01 and last > 100 * plain else "the behaviour has changed")
PY
"$work/venv/bin/python" "$work/run.py"
