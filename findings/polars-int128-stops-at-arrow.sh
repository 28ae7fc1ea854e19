#!/usr/bin/env bash
# polars 2.1.0 and pyarrow 26.0.1: a polars column of 128-bit integers cannot leave through Arrow.
#
# polars hands Int128 columns out through the Arrow C stream with the format string `_pli128`, which is not one of the
# Arrow specification. pyarrow refuses it, so DataFrame.to_arrow(), pa.table(frame) and DataFrame.to_pandas() all fail
# as soon as one such column is there, also where sums of Int64 would never have needed the width. A cast to Decimal
# passes, and so does one to Int64 where the values fit.
#
# Seen:
#   to_arrow   ArrowInvalid: Invalid or unsupported format string: '_pli128'
#   pa.table   ArrowInvalid: Invalid or unsupported format string: '_pli128'
#   to_pandas  ArrowInvalid: Invalid or unsupported format string: '_pli128'
#   decimal    decimal128(38, 0) [1, 2]
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
"$place/env/bin/pip" install --quiet polars==2.1.0 pyarrow==26.0.1 pandas==3.1.1 2>/dev/null
"$place/env/bin/python" - <<'PY'
import polars as pl
import pyarrow as pa

frame = pl.DataFrame({"a": pl.Series([1, 2], dtype=pl.Int128)})
for name, way in (("to_arrow", frame.to_arrow), ("pa.table", lambda: pa.table(frame)), ("to_pandas", frame.to_pandas)):
    try:
        way()
    except pa.ArrowInvalid as error:
        print(f"{name:10} ArrowInvalid: {error}")
        assert "_pli128" in str(error), error
    else:
        raise SystemExit(f"{name} passes now")
passed = frame.with_columns(pl.col("a").cast(pl.Decimal(38, 0))).to_arrow()["a"]
print(f"{'decimal':10} {passed.type} {[int(value) for value in passed.to_pylist()]}")
assert passed.to_pylist() == [1, 2]
PY
