"""What the inputs of an exported file mean stands in the file, in its signature, and in its report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import pytest

DAYS = pd.date_range("2024-01-01", periods=60)
ROWS = pd.DataFrame(
    {
        "naive": DAYS,
        "zoned": DAYS.tz_localize("Europe/Berlin") + pd.to_timedelta(np.arange(60) ** 2, "h"),
        "took": pd.to_timedelta(np.arange(60) % 7, "min"),
        "kind": ["a", "b", "c"] * 20,
        "n": np.arange(60) % 11,
        "y": np.arange(60.0),
    }
)
MEANT = {
    "naive": "microseconds since 1970-01-01 00:00 UTC (learnt as times without a zone, taken as UTC); "
    "missing: -9223372036854775808",
    "zoned": "microseconds since 1970-01-01 00:00 UTC (learnt as times in Europe/Berlin); "
    "missing: -9223372036854775808",
    "took": "seconds; missing: NaN",
    "kind": "missing: the empty text",
    "n": "missing: NaN",
}


@pytest.mark.parametrize("stream", [False, True])
def test_units_and_missing_values_stand_in_the_onnx_file_and_the_signature(lab, tmp_path, stream):
    import onnx

    ROWS.to_parquet(tmp_path / "rows.parquet")
    trained = lab.train(str(tmp_path / "rows.parquet") if stream else ROWS, "y", stream=stream)
    assert {spec.name: spec.meaning for spec in trained.info.signature.inputs} == MEANT
    artifact = lab.export()
    file = str(next(Path(artifact.path).glob("*.onnx")))
    assert {value.name: value.doc_string for value in onnx.load(file).graph.input} == MEANT
    session = onnxruntime.InferenceSession(file)
    assert session.get_modelmeta().custom_metadata_map == {f"input {name}": text for name, text in MEANT.items()}
    report = artifact.report()
    assert MEANT["zoned"] in report and MEANT["took"] in report and "input n " not in report

    given = {
        "naive": DAYS.to_numpy().astype("datetime64[us]").astype(np.int64)[:, None],
        "zoned": ROWS["zoned"].dt.tz_convert("UTC").dt.tz_localize(None).to_numpy().astype("datetime64[us]"),
        "took": ROWS["took"].dt.total_seconds().to_numpy()[:, None],
        "kind": ROWS["kind"].to_numpy(dtype=object)[:, None],
        "n": ROWS["n"].to_numpy(dtype=float)[:, None],
    }
    given["zoned"] = given["zoned"].astype(np.int64)[:, None]
    given = {name: np.array(values) for name, values in given.items()}
    given["zoned"][3], given["took"][4], given["kind"][5] = -(2**63), np.nan, ""
    rows = ROWS.copy()
    rows.loc[3, "zoned"], rows.loc[4, "took"], rows.loc[5, "kind"] = pd.NaT, pd.NaT, None
    found = np.ravel(session.run(None, given)[0])
    assert found == pytest.approx(lab.predict(rows)["prediction"].to_numpy())


def test_other_formats_and_manifests_of_before_say_what_they_can(lab):
    lab.train(ROWS, "y")
    specs = {spec.name: spec for spec in lab.export(format="pt2").signature.inputs}
    assert specs["kind"].meaning == "codes of the texts; missing: 0" and specs["naive"].meaning == MEANT["naive"]
    import msgspec

    from maas_magics.api.signature import TensorSpec
    from maas_magics.core.features.modalities.number import Number
    from maas_magics.core.features.modalities.timestamp import Timestamp
    from maas_magics.core.features.processor import restored

    old = msgspec.json.decode(b'{"name": "a", "datatype": "FP64", "shape": [-1, 1]}', type=TensorSpec)
    assert old.meaning == "" and b"meaning" not in msgspec.json.encode(old)
    columns = b'{"columns": [{"type": "moment", "name": "t"}, {"type": "numeric", "name": "n"}]}'
    found = restored(b'{"columns": ' + columns + b', "layout": "raw", "scaling": {}}')
    assert found.features == (Timestamp("t"), Number("n"))
