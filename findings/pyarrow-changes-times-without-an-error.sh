#!/usr/bin/env bash
# pyarrow 26.0.1 (numpy 2.4.6): values that are changed without an error when Python and numpy values become Arrow arrays.
#
# 1. pa.array(values, mask=mask) of a datetime64 or timedelta64 array sees NaT where no mask is given, and takes it for a
#    value once one is: the slot is valid and holds -2**63 ("value out of range"). from_pandas=True does not help.
#    Seen:  without a mask: null_count 1        with a mask that hides nothing: null_count 0
# 2. pa.array([date, datetime]) is date32: the time of day of every datetime after the first value is dropped. The other
#    order raises ArrowTypeError.
#    Seen:  [date(2020, 1, 1), datetime(2020, 1, 1, 13)] -> date32 [2020-01-01, 2020-01-01]
# 3. pa.array([timedelta, 1.0]) is duration[us]: the float is taken for microseconds.
#    Seen:  [timedelta(days=1), 1.0] -> [1 day, 1 microsecond]
#
# Exits 0 while this is so, and 1 once one of them has changed.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
"$place/env/bin/pip" install -q "pyarrow==26.0.1" "numpy==2.4.6"
"$place/env/bin/python" - <<'PY'
import datetime as dt
import sys

import numpy as np
import pyarrow as pa

times = np.array(["2020-01-01", "NaT"], dtype="datetime64[us]")
plain = pa.array(times)
masked = pa.array(times, mask=np.array([False, False]))
asked = pa.array(times, from_pandas=True, mask=np.array([False, False]))
print("NaT without a mask:", plain.null_count, "missing; beside a mask:", masked.null_count, asked.null_count)
both = pa.array([dt.date(2020, 1, 1), dt.datetime(2020, 1, 1, 13)])
print("date and datetime:", both.type, both.to_pylist())
length = pa.array([dt.timedelta(days=1), 1.0])
print("timedelta and float:", length.type, length.to_pylist())
as_seen = (
    (plain.null_count, masked.null_count, asked.null_count) == (1, 0, 0)
    and both.to_pylist() == [dt.date(2020, 1, 1)] * 2
    and length.to_pylist() == [dt.timedelta(days=1), dt.timedelta(microseconds=1)]
)
print("as seen" if as_seen else "changed")
sys.exit(0 if as_seen else 1)
PY
