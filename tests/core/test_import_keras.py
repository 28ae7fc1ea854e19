"""Files of Keras and SavedModels become versions that answer as they do; what would run code is refused unopened."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import zipfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import maas_magics as maas
from maas_magics.api.errors import MissingDependency, ModelError
from maas_magics.core.importers.tensorflow.guard import check_keras

# TensorFlow is looked for, and not imported: it does not bear every other library in its process
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not all(map(find_spec, ("tensorflow", "tf2onnx"))), reason="TensorFlow is not installed"),
]

MADE = """
import numpy as np, keras, tensorflow as tf
from pathlib import Path
L = keras.layers
keras.utils.set_random_seed(0)
rows = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
table = keras.Sequential([L.Input((3,)), L.Normalization(), L.Dense(400, "relu"), L.BatchNormalization(), L.Dense(3, "softmax")])
table.layers[0].adapt(rows)
table.save("table.keras")
np.save("table.npy", table.predict(rows, verbose=0))
picture = keras.Sequential([L.Input((8, 8, 1)), L.Conv2D(4, 3, padding="same", activation="relu"), L.MaxPooling2D(), L.Flatten(), L.Dense(1)])
picture.save("picture.h5")
words = L.Input((6,), dtype="int32", name="words")
number = L.Input((2,), name="number")
read = L.LSTM(4)(L.Embedding(20, 5)(words))
both = keras.Model([words, number], {"kind": L.Dense(2, "softmax", name="kind")(read), "size": L.Dense(1, name="size")(L.Concatenate()([read, number]))})
both.export("both", verbose=False)
given = {"words": np.arange(24).reshape(4, 6) % 20, "number": rows[:4, :2]}
np.savez("both.npz", **given, **both.predict(given, verbose=0))

def leak(x):
    Path("ran").touch()
    return x

code = keras.Sequential([L.Input((3,)), L.Lambda(leak), L.Dense(1)])
Path("ran").unlink(missing_ok=True)
code.save("code.keras")
code.save("code.h5")
Path("ran").unlink(missing_ok=True)

class Writes(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None, 3], name="x")])
    def __call__(self, x):
        tf.io.write_file("written", "x")
        return {"y": tf.reduce_sum(x, axis=1)}

w = Writes()
tf.saved_model.save(w, "writes", signatures={"serving_default": w.__call__})
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models, made by Keras in a process of its own."""
    folder = tmp_path_factory.mktemp("keras")
    env = {**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    subprocess.run([sys.executable, "-c", textwrap.dedent(MADE)], cwd=folder, env=env, check=True, capture_output=True)
    return folder


@pytest.fixture
def rows() -> pd.DataFrame:
    return pd.DataFrame(np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32), columns=["a", "b", "c"])


def test_a_file_of_keras_answers_as_it_does(made: Path, store: Path, rows: pd.DataFrame) -> None:
    wanted = np.load(made / "table.npy")
    sample = rows.assign(kind=wanted.argmax(1))
    model = maas.import_model(str(made / "table.keras"), "table", sample=sample, target="kind")
    assert (model.architecture, model.task, model.metrics["accuracy"]) == ("keras", "multiclass", 1.0)
    told = maas.predict("table", rows)
    np.testing.assert_array_equal(told["prediction"], wanted.argmax(1))
    np.testing.assert_allclose(told.iloc[:, 1:], wanted, atol=1e-5)
    small = maas.export("table", compress="int8", max_drop="50%")
    assert len(maas.predict(f"table@{small.variant}", rows)) == len(rows)


def test_an_older_file_of_keras(made: Path, store: Path) -> None:
    model = maas.import_model(str(made / "picture.h5"), "picture")
    assert (model.task, model.signature.inputs[0].shape) == ("regression", (-1, 8, 8, 1))
    assert maas.predict("picture", np.zeros((3, 8, 8, 1), dtype=np.float32)).shape == (3,)


def test_a_saved_model_of_several_inputs_and_answers(made: Path, store: Path) -> None:
    wanted = np.load(made / "both.npz")
    model = maas.import_model(str(made / "both"), "both")
    assert {spec.name: spec.datatype for spec in model.signature.inputs} == {"words": "INT32", "number": "FP32"}
    table = pd.DataFrame({"words": list(wanted["words"]), "number": list(wanted["number"])})
    told = maas.predict("both", table)
    np.testing.assert_array_equal(told["kind"], wanted["kind"].argmax(1))
    np.testing.assert_allclose(told["size"], wanted["size"][:, 0], atol=1e-5)


@pytest.mark.parametrize("name", ["code.keras", "code.h5"])
def test_code_in_a_file_is_not_run(name: str, made: Path, store: Path) -> None:
    with pytest.raises(ModelError, match=r"Lambda, which is code.*none of it is run") as raised:
        maas.import_model(str(made / name), "m")
    assert "safe_mode=False" in raised.value.hint
    assert not list(made.rglob("ran"))
    assert not list(maas.models())


def test_a_saved_model_that_writes_files_is_not_run(made: Path, store: Path) -> None:
    with pytest.raises(ModelError, match=r"would run WriteFile.*It was not loaded"):
        maas.import_model(str(made / "writes"), "m")
    assert not list(made.rglob("written"))


def described(file: Path, layer: dict[str, object]) -> Path:
    whole = {"class_name": "Sequential", "module": "keras", "config": {"layers": [layer]}}
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("config.json", json.dumps(whole))
    return file


@pytest.mark.parametrize(
    ("name", "module", "config", "said"),
    [
        ("system", "os", {}, r"holds os\.system"),
        ("get_file", "keras.utils", {}, r"holds keras\.utils\.get_file"),
        ("get_file", "keras.src.utils.file_utils", {}, r"holds keras\.src\.utils"),
        ("StringLookup", "keras.layers", {"vocabulary": "/etc/hostname"}, "a file besides it"),
        ("TorchModuleWrapper", "keras.layers", {"module": "x"}, "TorchModuleWrapper, which is code"),
        ("Lambda", None, {}, "holds Lambda, which is code"),
    ],
)
def test_names_of_anything_else_are_refused(
    name: str, module: str, config: dict[str, object], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=said):
        check_keras(described(tmp_path / "m.keras", {"class_name": name, "module": module, "config": config}))


def test_a_layer_of_its_maker_is_refused(tmp_path: Path, store: Path) -> None:
    file = described(tmp_path / "m.keras", {"class_name": "Mine", "config": {}, "registered_name": "theirs>Mine"})
    with pytest.raises(ModelError, match="holds Mine, which is code, or no layer"):
        maas.import_model(str(file), "m")


def test_what_is_no_file_of_keras(tmp_path: Path, store: Path) -> None:
    (tmp_path / "m.keras").write_bytes(b"no")
    with pytest.raises(ModelError, match="is no file of Keras"):
        maas.import_model(str(tmp_path / "m.keras"), "m")
    with pytest.raises(ModelError, match="There is no file"):
        maas.import_model(str(tmp_path / "absent.keras"), "m")
    assert not list(maas.models())


def test_weights_in_another_file_are_not_read(tmp_path: Path, store: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.attrs["model_config"] = "{}"
        file["secret"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/")
    with pytest.raises(ModelError, match="'secret' is a link"):
        maas.import_model(str(tmp_path / "m.h5"), "m")


def test_without_tensorflow_its_install_line_is_said(made: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(MissingDependency, match="tf2onnx") as raised:
        maas.import_model(str(made / "table.keras"), "m")
    assert "maas-magics[tensorflow]" in raised.value.hint
