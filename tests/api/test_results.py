"""Signatures, requests, and results as they show themselves."""

from __future__ import annotations

import math
import pickle
from xml.etree import ElementTree

import msgspec
import numpy as np
import pytest

from maas_magics.api.records import Comparison, ModelRecord, lower_is_better
from maas_magics.api.requests import ExportRequest, PredictRequest, TrainRequest
from maas_magics.api.results import Artifact, Metrics, ModelInfo, TrainedModel, Verification
from maas_magics.api.signature import DATATYPES, NUMPY, Signature, TensorSpec
from maas_magics.api.tables import format_number, html_table, size, text_table

SIGNATURE = Signature(
    (TensorSpec("a", "FP64", (-1, 1)), TensorSpec("c", "BYTES", (-1, 1))), (TensorSpec("p", "FP32", (-1, 3)),)
)
INFO = ModelInfo(name="m", version=3, task="multiclass", architecture="mlp", classes=("a", "b"),
                 metrics={"accuracy": 0.91234}, parameters=1234, signature=SIGNATURE)  # fmt: skip
CHECK = Verification(rows=12, max_abs_diff=3e-7, tolerance=1e-4, metrics_before={"accuracy": 0.9},
                     metrics_after={"accuracy": 0.9}, bytes_before=1500, bytes_after=2_500_000,
                     latency_before={"1": 0.5}, latency_after={"1": 0.02})  # fmt: skip
ARTIFACT = Artifact(model="m:3", variant="onnx", format="onnx", path="/x", digest="0", signature=SIGNATURE,
                    verification=CHECK)  # fmt: skip


def test_a_signature_reads_like_one_and_round_trips() -> None:
    assert str(SIGNATURE) == "(a: FP64[n, 1], c: BYTES[n, 1]) → (p: FP32[n, 3])"
    assert msgspec.json.decode(msgspec.json.encode(SIGNATURE), type=Signature) == SIGNATURE
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"name": "a", "datatype": "FLOAT", "shape": [1]}', type=TensorSpec)


@pytest.mark.parametrize("datatype", NUMPY)
def test_datatypes_are_numpy_types(datatype: str) -> None:
    assert DATATYPES[np.dtype(NUMPY[datatype]).name] == datatype


@pytest.mark.parametrize("value", [INFO, ARTIFACT, CHECK, Metrics(model="m:3", rows=4, values={"f1": 0.5})])
def test_results_round_trip(value: msgspec.Struct) -> None:
    assert msgspec.json.decode(msgspec.json.encode(value), type=type(value)) == value
    assert pickle.loads(pickle.dumps(value)) == value


@pytest.mark.parametrize("request_", [TrainRequest(name="m", data=[1]), ExportRequest(model="m"),
                                      PredictRequest(model="m", data=[1])])  # fmt: skip
def test_requests_are_frozen(request_: msgspec.Struct) -> None:
    with pytest.raises(AttributeError):
        request_.model = "other"  # type: ignore[attr-defined]


def test_results_show_themselves_in_a_line_or_a_table() -> None:
    model = TrainedModel(info=INFO, best_epoch=2, epochs=5, history={}, seconds=1.0)
    assert repr(model) == "<TrainedModel m:3 · multiclass · epoch 2 of 5 · accuracy 0.9123>"
    assert repr(model.info).startswith("<ModelInfo m:3 · multiclass") and "signature" not in repr(model.info)
    assert repr(ARTIFACT) == "<Artifact m:3 · onnx · max |Δ| 3.0e-07>"
    report = ARTIFACT.report()
    assert "3.0e-07 on 12 rows (accepted: 1e-04)" in report and "2.5 MB" in report and "ms at batch 1" in report
    ElementTree.fromstring(f"<div>{ARTIFACT._repr_html_()}</div>")


def test_metrics_read_like_a_dict_and_show_their_confusion() -> None:
    metrics = Metrics(model="m:3", rows=4, values={"f1": 0.5, "auc": math.nan}, classes=("<a>", "b"),
                      confusion=[[1, 0], [2, 1]])  # fmt: skip
    assert metrics["f1"] == 0.5 and list(metrics) == ["f1", "auc"] and len(metrics) == 2 and len(dict(metrics)) == 2
    assert repr(metrics) == "<Metrics m:3 · 4 rows · f1 0.5, auc –>"
    html = metrics._repr_html_()
    assert "&lt;a&gt;" in html and "<a>" not in html
    ElementTree.fromstring(f"<div>{html}</div>")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.123456, "0.1235"), (0.0, "0"), (123456.0, "1.23e+05"), (0.00012345, "0.000123"), (math.nan, "–"), (1.0, "1")],
)
def test_figures(value: float, text: str) -> None:
    assert format_number(value) == text


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (5e12, "5000.0 GB")])
def test_sizes(count: float, text: str) -> None:
    assert size(count) == text


def test_tables_align_and_escape() -> None:
    assert text_table([("a", "bb"), ("ccc", "d")], ("x", "y")).splitlines() == ["x    y", "a    bb", "ccc  d"]
    assert text_table([]) == ""
    html = html_table([("<script>",)], "<b>", ("<i>",))
    assert not any(tag in html for tag in ("<script>", "<b>", "<i>")) and "&lt;script&gt;" in html


def test_numbers_end_at_one_line_and_no_row_is_shorter_than_the_table() -> None:
    rows = [("loss", "0.5", "ok"), ("rows", "12,345"), ("size", "–", "x")]
    assert text_table(rows, ("", "n", "t")).splitlines() == [
        "           n  t",
        "loss     0.5  ok",
        "rows  12,345",
        "size       –  x",
    ]
    root = ElementTree.fromstring(html_table(rows, "c", ("", "n", "t")))
    lines = root.findall("tr")
    assert {len(line) for line in lines} == {3}
    assert all(
        "text-align:right" in line[1].attrib["style"] and "text-align:left" in line[2].attrib["style"] for line in lines
    )
    assert "--jp-rendermime-table-row-background:transparent" in root.attrib["style"], "no stripes of the page's own"


@pytest.mark.parametrize(
    ("name", "lower"),
    [("loss", True), ("log_loss", True), ("rmse", True), ("val_mae", True), ("my_error", True), ("brier", True),
     ("accuracy", False), ("r2", False), ("auc", False), ("maestro", False)],
)  # fmt: skip
def test_a_comparison_marks_the_better_value_and_dims_what_is_equal(name: str, lower: bool) -> None:
    values = (0.25, 0.75, 0.5)
    records = tuple(
        ModelRecord(
            info=ModelInfo(name="m", version=i, task="binary", architecture="mlp", metrics={name: value, "same": 1.0})
        )
        for i, value in enumerate(values, 1)
    )
    found = Comparison(records=records, table=None)
    best = "0.25" if lower else "0.75"
    row = next(line for line in repr(found).splitlines() if f"validation {name}" in line)
    assert f"{best} ★" in row and row.count("★") == 1
    root = ElementTree.fromstring(found._repr_html_())
    cells = {line[0].text: line for line in root.findall("tr")}
    strong = [cell.text for cell in cells[f"validation {name}"] if "font-weight:700" in cell.attrib["style"]]
    assert strong == [f"★ {best}"]
    faint = {head for head, line in cells.items() if all("opacity" in cell.attrib["style"] for cell in line)}
    assert {"task", "validation same"} <= faint and f"validation {name}" not in faint


def test_of_which_metrics_smaller_values_are_better() -> None:
    assert all(map(lower_is_better, ("val_loss", "rmse", "perplexity", "bits_per_byte", "wer", "cer", "price_mae")))
    assert not any(map(lower_is_better, ("accuracy", "f1", "greedy_agreement", "recall@10")))
