"""What was answered wrong, or not at all, before: each stands here with what is right."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from test_import import folder_of
from test_modalities import reviews

import maas_magics as maas
from maas_magics.api.errors import DataError, ModelError, OptionError, Stopped
from maas_magics.session import current

pytestmark = pytest.mark.usefixtures("lab")

N = 80
X = np.random.default_rng(0).normal(size=(N, 3)).astype("float32")
TABLE = pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "y": X[:, 0] - X[:, 1]})
QUICK: dict[str, Any] = {"target": "y", "model": "linear", "epochs": 2}
SPANS = [[{"start": 0, "end": 4, "label": "person"}], [{"start": 0, "end": 3, "label": "person"}]]
TEXTS = ["Anna lives in Rome", "Bob works"]


@pytest.mark.parametrize("odd", ["oops", [[0, 4, "person"]], [{"start": "0", "end": 4, "label": "person"}], 3.5])
def test_a_row_that_is_not_a_list_of_spans_is_named(odd: Any) -> None:
    spans = SPANS * 10
    spans[7] = odd
    rows = pd.DataFrame({"text": TEXTS * 10, "spans": spans})
    with pytest.raises(DataError, match="Row 7 holds .*where other rows hold lists of spans"):
        maas.train("s", data=rows, target="spans", epochs=1)


def test_a_sweep_of_other_rows_is_not_resumed() -> None:
    pytest.importorskip("optuna")
    found = maas.train("m", data=TABLE, **QUICK, sweep="lr=[1e-3,1e-2]", trials=2)
    again = maas.train("m", data=TABLE, **QUICK, sweep="lr=[1e-3,1e-2]", trials=2, resume=True)
    assert [trial.value for trial in again.trials] == [trial.value for trial in found.trials]
    other = TABLE.assign(a=TABLE.a[::-1].to_numpy())
    with pytest.raises(OptionError, match="The data has changed since the sweep began"):
        maas.train("m", data=other, **QUICK, sweep="lr=[1e-3,1e-2]", trials=2, resume=True)
    with pytest.raises(OptionError, match="The data has changed since the sweep began"):
        maas.train("m", data=TABLE[:-1], **QUICK, sweep="lr=[1e-3,1e-2]", trials=2, resume=True)


def test_a_sweep_is_stopped_by_the_name_of_its_model() -> None:
    pytest.importorskip("optuna")
    job = maas.train(
        "m", data=TABLE, **QUICK | {"epochs": 2_000}, sweep="lr=1e-4..1e-2 log", trials=50, background=True
    )
    maas.stop("m")
    with pytest.raises(Stopped):
        job.result(120)
    assert current().job_of("m").id == job.id and maas.logs("m")


def test_rows_count_by_their_weights_in_an_evaluation(tmp_path: Path) -> None:
    heavy = TABLE.assign(w=np.where(np.arange(N) < 20, 1.0, 0.0))
    maas.train("m", data=heavy, weights="w", **QUICK)
    given = maas.evaluate("m", heavy, "y").values
    alone = maas.evaluate("m", heavy[:20], "y").values
    plain = maas.evaluate("m", heavy.drop(columns="w"), "y").values
    assert given["rmse"] == pytest.approx(alone["rmse"]) and given["rmse"] != pytest.approx(plain["rmse"])
    file = tmp_path / "rows.csv"
    heavy.to_csv(file, index=False)
    assert maas.evaluate("m", str(file), "y").values["rmse"] == pytest.approx(given["rmse"], rel=1e-5)
    with pytest.raises(DataError, match="The weights 'w' are missing, negative or infinite in 1 row"):
        maas.evaluate("m", heavy.assign(w=[-1.0, *[1.0] * (N - 1)]), "y")


def test_a_head_is_not_taken_for_another(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "bert", reviews()["review"], "bert", "AutoModelForSequenceClassification")
    with pytest.raises(ModelError, match="holds BertForSequenceClassification, which token-classification is not for"):
        maas.import_model(str(folder), "m", kind="token-classification")
    assert maas.import_model(str(folder), "m", kind="embedding").task == "embedding"
    tagger = folder_of(tmp_path / "tags", reviews()["review"], "bert", "AutoModelForTokenClassification")
    with pytest.raises(ModelError, match="which text-classification is not for"):
        maas.import_model(str(tagger), "m", kind="text-classification")


def test_an_imported_model_knows_its_target(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "bert", reviews()["review"], "bert", "AutoModelForSequenceClassification")
    info = maas.import_model(str(folder), "m", target="mood")
    assert info.target == ("mood",)
    rows = pd.DataFrame({"text": ["so", "so"], "mood": list(info.classes)})
    assert maas.evaluate("m", rows).rows == 2


def test_several_targets_of_which_one_is_text_name_it() -> None:
    rows = TABLE.assign(kind=["u", "v"] * (N // 2))
    found = maas.train("m", data=rows, target=["y", "kind"], epochs=1)
    assert found.info.target == ("y", "kind") and found.info.head_classes["kind"] == ("u", "v")


def test_trees_keep_their_rate() -> None:
    pytest.importorskip("sklearn")
    asked = {"data": TABLE, "target": "y", "model": "trees"}
    maas.train("t", epochs=3, lr=0.1, **asked)
    with pytest.raises(OptionError, match="made with another learning rate"):
        maas.train("t", epochs=5, lr=0.3, resume=True, **asked)
    assert maas.train("t", epochs=5, lr=0.1, resume=True, **asked).epochs == 5


def test_a_variant_stands_beside_its_model() -> None:
    maas.train("m", data=TABLE, target="y", model="mlp", epochs=2)
    maas.export("m", compress="int8")
    found = maas.compare("m", "m@int8")
    assert list(found.table.model) == ["m:1", "m:1@int8"] and "m:1@int8" in repr(found)
    assert found.table.bytes[1] < found.table.bytes[0]
    whole, small = (record.info.metrics["rmse"] for record in found.records)
    assert whole != small and small == pytest.approx(whole, rel=0.5)
    with pytest.raises(OptionError, match="m:1@int8 was named twice"):
        maas.compare("m@int8", "m:1@int8")


def test_infinite_numbers_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    from maas_magics.api.requests import PredictRequest

    maas.train("m", data=TABLE, **QUICK)
    backend = current().backend
    found = backend.predict(PredictRequest(model="m", data=TABLE.assign(a=[np.inf, -np.inf, *TABLE.a[2:]])))
    assert found.cautions == ("2 rows have infinite numbers in 'a', and are answered as if they were missing.",)
    assert not backend.predict(PredictRequest(model="m", data=TABLE.assign(a=[np.nan, *TABLE.a[1:]]))).cautions


def test_one_picture_is_one_row(tmp_path: Path) -> None:
    pictures = [Image.fromarray(np.full((16, 16, 3), shade, np.uint8)) for shade in range(0, 240, 6)]
    rows = pd.DataFrame({"picture": pictures, "light": [shade >= 20 for shade in range(40)]})
    maas.train("p", data=rows, target="light", epochs=1)
    wanted = list(maas.predict("p", rows).prediction)
    stream = io.BytesIO()
    pictures[30].save(stream, "PNG")
    file = tmp_path / "one.png"
    file.write_bytes(stream.getvalue())
    for one in (pictures[30], stream.getvalue(), str(file), file, [pictures[30]], [stream.getvalue()]):
        assert list(maas.predict("p", one)) == wanted[30:31]
    assert list(maas.predict("p", pictures[:3])) == wanted[:3]
    with pytest.raises(DataError, match="row 0"):
        maas.predict("p", b"no picture")
