"""Every exporter on every kind of model: the file answers what the model answers, in this process and from raw columns."""

from __future__ import annotations

import ctypes
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch
from torch import nn

import maas_magics as maas
from maas_magics.api.errors import ExportError
from maas_magics.api.signature import NUMPY, Signature
from maas_magics.core.data.sources import open_source
from maas_magics.core.exporters import exporters
from maas_magics.core.model import Model, load_model
from maas_magics.session import current

FORMATS = [name for name in exporters.names() if name not in ("coreml", "executorch", "litert")]
"""Those whose converters take a moment; the others have tests of their own."""
ROWS = 400
rng = np.random.default_rng(0)


def mixed() -> pd.DataFrame:
    """Numbers, categories, moments, booleans and missing values, under names that are no identifiers."""
    frame = pd.DataFrame(
        {
            "a": rng.normal(size=ROWS),
            "prediction": rng.integers(0, 9, ROWS),
            "prediction_": rng.normal(size=ROWS).astype(np.float32),
            "in0": rng.normal(size=ROWS),
            "core/in0": rng.normal(size=ROWS),
            "probabilities": rng.choice(["x", "y z", "ü"], ROWS),
            "größe (cm) 💡": rng.normal(size=ROWS),
            "flag": rng.choice([True, False], ROWS),
            "when": pd.Timestamp("2024-02-29 12:34:56") + pd.to_timedelta(rng.integers(0, 10**6, ROWS), unit="min"),
            "kind": pd.Categorical(rng.choice(["p", "q"], ROWS)),
        }
    )
    for column in ("a", "probabilities", "when"):
        frame.loc[rng.choice(ROWS, 40, replace=False), column] = None
    return frame


def numeric() -> pd.DataFrame:
    return pd.DataFrame(rng.normal(size=(ROWS, 4)), columns=list("abcd"))


def array(*shape: int) -> Callable[[], Any]:
    return lambda: rng.normal(size=(ROWS, *shape)).astype(np.float32)


class Recurrent(nn.Module):
    def __init__(self, *, keep: int = 5) -> None:
        super().__init__()
        self.cells, self.head = nn.LSTM(3, keep, batch_first=True), nn.Linear(keep, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self.head(self.cells(x)[0][:, -1])
        return answer


class Attentive(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), 1)
        self.head = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self.head(self.encoder(x).mean(dim=1))
        return answer


def classes(labels: Any) -> Callable[[], Any]:
    return lambda: np.array(labels)[np.arange(ROWS) % len(labels)]


CASES: dict[str, tuple[Callable[[], Any], Callable[[], Any], Any, str | None]] = {
    # name: (rows, target, model, task)
    "mixed-strings": (mixed, classes(["no", "yes", "möglich"]), "mlp", None),
    "mixed-weighed": (mixed, classes(["no", "yes", "möglich"]), "tabm", None),
    "mixed-bools": (mixed, classes([True, False]), "linear", None),
    "numeric-ints": (numeric, classes([3, 5, 7]), "linear", None),
    "numeric-halves": (numeric, classes([0.5, 1.5, 2.5]), "linear", "multiclass"),
    "numeric-quantity": (numeric, lambda: rng.normal(size=ROWS), "linear", None),
    "array-two-quantities": (array(5), lambda: rng.normal(size=(ROWS, 2)), "linear", None),
    "array-multilabel": (array(5), lambda: pd.DataFrame(rng.integers(0, 2, (ROWS, 3)), columns=list("xyz")),
                         "linear", None),
    "images": (array(8, 8), classes([0, 1]), "cnn", None),
    "linear-module": (array(4), lambda: rng.normal(size=ROWS), nn.Sequential(nn.Linear(4, 8), nn.ReLU(),
                                                                             nn.Linear(8, 1)), None),
    "convolution": (array(1, 6, 6), classes([0, 1, 2]), nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(),
                                                                       nn.Linear(32, 3)), None),
    "lstm": (array(7, 3), classes([0, 1, 2]), Recurrent(), None),
    "transformer": (array(5, 4), classes([0, 1, 2]), Attentive(), None),
}  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Model, Path, Any]]:
    """Function that trains a case once: the model, its folder in the store, and its rows."""
    from maas_magics import session

    place = tmp_path_factory.mktemp("models")
    found: dict[str, tuple[Model, Path, Any]] = {}

    def train(case: str) -> tuple[Model, Path, Any]:
        if case not in found:
            rows, target, net, task = CASES[case]
            data = rows()
            torch.set_num_threads(1)
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("MAAS_STORE", str(place))
                patch.setattr(session, "_session", None)
                # What publishing exports by itself is tested elsewhere; here each file is written and opened once.
                patch.setattr("maas_magics.core.publish.export_to", lambda *_: None)
                maas.train(case, data, target(), model=net, task=task, epochs=1)
                folder = place / "models" / case / "1"
                loader: Any = current().backend
                found[case] = loader.loader.model(case, 1), folder, data
        return found[case]

    return train


@pytest.fixture(scope="module")
def files(
    models: Callable[[str], tuple[Model, Path, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str], tuple[Path, Signature]]:
    """Function that exports a case once."""
    found: dict[tuple[str, str], tuple[Path, Signature]] = {}

    def write(case: str, format: str) -> tuple[Path, Signature]:
        if (case, format) not in found:
            if format == "openvino":
                pytest.importorskip("openvino")
            exporter = exporters.get(format)
            file = tmp_path_factory.mktemp("export") / exporter.file
            try:
                found[case, format] = file, exporter.export(models(case)[0], file)
            except ExportError as error:
                if format != "openvino":
                    raise
                assert "with missing values" in error.message or "at random" in error.message
                pytest.skip(error.message)  # it refuses what it would answer otherwise
        return found[case, format]

    return write


def hard(rows: Any) -> Any:
    """The rows with what training never saw: unseen categories, NaN, NaT, and columns that are all missing."""
    if not isinstance(rows, pd.DataFrame):
        return rows
    rows = rows.copy()
    for column in rows.columns:
        if rows[column].dtype == bool:
            continue
        rows.loc[rows.index[::5], column] = None
        if rows[column].dtype == object or str(rows[column].dtype) in ("str", "string"):
            rows.loc[rows.index[1::5], column] = "never seen"
    return rows


class SignalStack(ctypes.Structure):
    _fields_ = (("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


def has_its_signal_stack() -> bool:
    """Whether the stack on which this thread hears signals, if it has one, is memory of this process."""
    stack = SignalStack()
    assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack)) == 0
    held = (line.split()[0].split("-") for line in Path("/proc/self/maps").read_text().splitlines())
    start = stack.start
    return start is None or any(int(first, 16) <= start < int(last, 16) for first, last in held)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere OpenVINO leaves such stacks alone")
def test_a_cell_may_be_interrupted_after_openvino(models: Any, files: Any) -> None:
    (_, folder, _), (file, _) = models("linear-module"), files("linear-module", "openvino")
    both = [exporters.get("openvino").load(file, folder, None) for _ in range(2)]
    both.pop(0)
    assert has_its_signal_stack()
    both.clear()
    assert has_its_signal_stack()
    both.append(exporters.get("openvino").load(file, folder, None))
    away = threading.Thread(target=both.clear)
    away.start()
    away.join()
    assert has_its_signal_stack()


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("case", CASES)
def test_a_file_answers_what_the_model_answers(case: str, format: str, models: Any, files: Any) -> None:
    model, folder, rows = models(case)
    file, _ = files(case, format)
    run = exporters.get(format).load(file, folder, model)
    for size in (1, 2, 7, 256):
        raw = model.processor.encode(_table(model, hard(rows[:size])))
        answers, expected = run(raw), model.run(raw)
        assert answers.shape == expected.shape and answers.shape[0] == size
        np.testing.assert_allclose(answers, expected, atol=2e-5, rtol=1e-4)
        assert np.isfinite(answers).all()


def _table(model: Model, rows: Any) -> Any:
    table = open_source(rows).table()
    return table if isinstance(rows, pd.DataFrame) else table.rename_columns([model.processor.features[0].name])


@pytest.mark.parametrize("case", CASES)
def test_onnx_is_asked_with_raw_columns_as_its_signature_says(case: str, models: Any, files: Any) -> None:
    """Nothing of this package but the signature is used: what another program would do."""
    model, _, rows = models(case)
    file, signature = files(case, "onnx")
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    assert [value.name for value in session.get_inputs()] == [spec.name for spec in signature.inputs]
    assert [value.name for value in session.get_outputs()] == [spec.name for spec in signature.outputs]
    few = rows[:7]
    given = {}
    for column, spec in zip(model.processor.features, signature.inputs, strict=True):
        values = few[column.name] if isinstance(few, pd.DataFrame) else few
        if spec.datatype == "BYTES":
            values = values.astype(object).where(values.notna(), "").to_numpy()
        elif str(getattr(values, "dtype", "")).startswith("datetime"):
            values = values.astype("datetime64[us]").to_numpy().astype(np.int64)
        given[spec.name] = np.asarray(values).astype(NUMPY[spec.datatype]).reshape(7, *spec.shape[1:])
    outputs = dict(zip([spec.name for spec in signature.outputs], session.run(None, given), strict=True))
    expected = model.run(model.processor.encode(_table(model, few)))
    np.testing.assert_allclose(outputs[signature.outputs[-1].name], expected, atol=2e-5, rtol=1e-4)
    answers = model.manifest.answers
    if answers.task in ("binary", "multiclass"):
        assert outputs["prediction"].tolist() == answers.label_array[expected.argmax(axis=1)].tolist()
    if answers.task == "multilabel":
        assert outputs["prediction"].tolist() == (expected >= 0.5).tolist()
    for spec in signature.outputs:
        assert outputs[spec.name].shape == (7, *spec.shape[1:])
        assert spec.datatype == "BYTES" or outputs[spec.name].dtype == NUMPY[spec.datatype]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("case", ["mixed-strings", "lstm", "convolution"])
def test_a_file_tells_nothing_of_this_machine(case: str, format: str, files: Any) -> None:
    file, _ = files(case, format)
    parts = [file.read_bytes()]
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            parts += [archive.read(name) for name in archive.namelist()]
    places = (Path(maas.__file__).parents[1], Path(torch.__file__).parents[1], Path.home(), Path(__file__).parent)
    for secret in (*(str(place).encode() for place in places if len(str(place)) > 1), b"stack_trace", b".py\"", b".py'",
                   b"forward("):  # fmt: skip
        assert not any(secret in part for part in parts), secret


def test_an_onnx_file_carries_no_metadata(files: Any) -> None:
    import onnx

    whole = onnx.load(files("lstm", "onnx")[0])
    assert not whole.metadata_props and not whole.doc_string
    assert whole.producer_name == "maas_magics"
    parts = [whole.graph, *whole.graph.node, *(node for function in whole.functions for node in function.node)]
    assert not any(part.metadata_props or part.doc_string for part in parts)
    assert whole.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"


class Turning(nn.Module):
    """Needs every digit of its factor: it turns large numbers into an angle."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sin(x.to(torch.float64) * 6.283185307179586).to(torch.float32).sum(dim=1, keepdim=True)


def test_numbers_keep_their_digits_in_onnx(store: Path) -> None:
    days = (20_000 + rng.random((ROWS, 1))).astype(np.float32)
    maas.train("m", days, days[:, 0], model=nn.Sequential(nn.Linear(1, 1), Turning()), preprocess="none", epochs=1)
    assert maas.export("m").verification.max_abs_diff < 1e-4


def test_rebuilt_from_its_files_a_declared_model_answers_the_same(models: Any) -> None:
    model, folder, rows = models("mixed-strings")
    raw = model.processor.encode(_table(model, rows))
    np.testing.assert_array_equal(load_model(folder).run(raw), model.run(raw))
