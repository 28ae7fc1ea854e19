#!/usr/bin/env bash
# pyarrow 26.0.1 and numpy 2.4.6: numpy times counted in multiples of a unit arrive as if they were counted in the unit.
#
# numpy's datetime64[10s] and timedelta64[10s] count tens of seconds, and np.arange, np.datetime64(…, "25ms") and readers
# of instruments' files make such arrays. pa.array takes the number and drops the multiple, without an error: every time
# is ten times too near to 1970, every length ten times too short. Other units (hours, months) are refused, which is
# honest. numpy itself converts rightly with .astype("datetime64[s]").
#
# Seen:
#   datetime64[10s] [1, 2]    numpy 00:00:10, 00:00:20       pyarrow 00:00:01, 00:00:02
#   datetime64[2D]  [1, 2]    numpy 1970-01-03, 1970-01-05   pyarrow 1970-01-02, 1970-01-03
#   timedelta64[10s] [1, 2]   numpy 10 s, 20 s               pyarrow 1 s, 2 s
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
"$place/env/bin/pip" install --quiet pyarrow==26.0.1 numpy==2.4.6 2>/dev/null
"$place/env/bin/python" - <<'PY'
import datetime as dt

import numpy as np
import pyarrow as pa

wrong = {
    "datetime64[10s]": [dt.datetime(1970, 1, 1, 0, 0, 1), dt.datetime(1970, 1, 1, 0, 0, 2)],
    "datetime64[2D]": [dt.date(1970, 1, 2), dt.date(1970, 1, 3)],
    "timedelta64[10s]": [dt.timedelta(seconds=1), dt.timedelta(seconds=2)],
}
for kind, seen in wrong.items():
    values = np.array([1, 2], kind)
    exact = values.astype(kind.partition("[")[0] + "[us]").tolist()
    found = pa.array(values).to_pylist()
    print(f"{kind:17} numpy {[str(value) for value in exact]}  pyarrow {[str(value) for value in found]}")
    assert found == seen, f"{kind} is read as {found} now"
    assert [str(value) for value in exact] != [str(value) for value in found]
PY
