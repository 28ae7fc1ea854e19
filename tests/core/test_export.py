"""`%export`: convert, verify on held-out rows, and only then publish."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import maas_magics as maas
from maas_magics.api.errors import ExportError, MaasError, ModelNotFound, NotFound, OptionError, ToleranceExceeded
from maas_magics.api.events import Message
from maas_magics.api.results import Artifact
from maas_magics.api.signature import Signature
from maas_magics.core.data.arrow import Array
from maas_magics.core.exporters import Run, exporters
from maas_magics.core.exporters.handed import started
from maas_magics.core.exporters.safetensors import Safetensors
from maas_magics.core.model import Model
from maas_magics.core.store.sample import read_sample

FORMATS = [name for name in exporters.names() if name not in ("coreml", "executorch", "litert")]
"""Those whose converters take a moment; the others have tests of their own."""

rng = np.random.default_rng(0)
TABLE = pd.DataFrame(
    {"a": rng.normal(size=120), "c": rng.choice(list("xyz"), 120), "y": rng.choice(["no", "yes"], 120)}
)
X = rng.normal(size=(80, 3)).astype(np.float32)
Y = X @ np.array([1.0, -2.0, 0.5], dtype=np.float32)


def train(name: str = "m", **given: Any) -> None:
    maas.train(name, **{"data": TABLE, "target": "y", "model": "linear", "epochs": 1} | given)


def exports(store: Path, name: str = "m", version: int = 1) -> list[str]:
    folder = store / "models" / name / str(version) / "exports"
    return sorted(os.listdir(folder)) if folder.is_dir() else []


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_is_verified_reported_and_opened(format: str, store: Path, tmp_path: Path) -> None:
    if format == "openvino":
        pytest.importorskip("openvino")
    train()
    artifact = maas.export("m", format, tolerance=1e-4)
    check = artifact.verification
    file = Path(artifact.path) / exporters.get(format).file
    assert (artifact.model, artifact.format, artifact.variant) == ("m:1", format, format)
    assert artifact.digest == hashlib.sha256(file.read_bytes()).hexdigest()
    assert (
        check.rows == read_sample(store / "models/m/1")[0].num_rows > 10
        and 0 <= check.max_abs_diff <= check.tolerance == 1e-4
    )
    trained = maas.models()[0].metrics
    assert check.metrics_before == check.metrics_after
    assert check.metrics_before["accuracy"] == pytest.approx(trained["accuracy"])
    assert check.bytes_before > 0 and check.bytes_after >= file.stat().st_size
    assert set(check.latency_before) == set(check.latency_after) == {"1", "256"}
    assert all(ms > 0 for ms in (*check.latency_before.values(), *check.latency_after.values()))
    if format == "onnx" and sys.platform == "linux":
        assert check.memory > 2**20  # also where this process has had more, as it has
    assert f"{check.max_abs_diff:.1e}" in artifact.report() and format in artifact._repr_html_()
    kept = msgspec.json.decode((file.parent / "artifact.json").read_bytes(), type=Artifact)
    assert msgspec.structs.replace(kept, path=artifact.path) == artifact
    assert str(store) not in (file.parent / "artifact.json").read_text()
    assert maas.models()[0].exports == (format,)
    assert list((store / "tmp").iterdir()) == []


def test_prediction_goes_through_the_export_afterwards(store: Path) -> None:
    from maas_magics.session import current

    train()
    loader: Any = current().backend
    before = maas.predict("m", TABLE)
    assert loader.loader.predictor("m").engine is None
    maas.export("m")
    after = maas.predict("m", TABLE)
    assert loader.loader.predictor("m").engine is not None
    assert list(after.prediction) == list(before.prediction)
    np.testing.assert_allclose(after.iloc[:, 1:], before.iloc[:, 1:], atol=1e-5)


def test_exported_again_it_is_replaced(store: Path) -> None:
    train()
    first = maas.export("m", "safetensors")
    (Path(first.path) / "stale").write_text("")
    second = maas.export("m:1", "safetensors")
    assert second.path == first.path and second.digest == first.digest
    assert sorted(os.listdir(second.path)) == ["README.md", "artifact.json", "model.safetensors"]


@pytest.mark.parametrize("out", ["copy.safetensors", "deep/er/copy.bin", "folder", "v1.0/"])
def test_out_gets_a_copy(out: str, store: Path, tmp_path: Path) -> None:
    train()
    if out.endswith("/"):
        (tmp_path / out).mkdir()
    artifact = maas.export("m", "safetensors", out=str(tmp_path / out))
    place = tmp_path / out
    assert Path(artifact.path) == place
    file = place / "model.safetensors" if place.is_dir() else place
    assert hashlib.sha256(file.read_bytes()).hexdigest() == artifact.digest
    assert (place / "artifact.json").is_file() == place.is_dir()
    assert exports(store) == ["safetensors"]


def test_out_that_cannot_be_written_leaves_the_export_in_the_store(store: Path, tmp_path: Path) -> None:
    train()
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="is in the store, but cannot be copied to"):
        maas.export("m", "safetensors", out=str(tmp_path / "file" / "x"))
    assert exports(store) == ["safetensors"]


@pytest.mark.parametrize(
    ("given", "kind", "told"),
    [
        ({"model": "n"}, ModelNotFound, "There is no model 'n'."),
        ({"format": "onxn"}, NotFound, "Did you mean 'onnx'?"),
        ({"tolerance": 0.0}, OptionError, "above 0"),
        ({"tolerance": float("nan")}, OptionError, "above 0"),
    ],
)
def test_what_makes_no_sense_is_refused(given: dict[str, Any], kind: type[MaasError], told: str, store: Path) -> None:
    train()
    with pytest.raises(kind, match="(?s)" + told.replace("?", r"\?")):
        maas.export(**{"model": "m", "format": "safetensors"} | given)
    assert exports(store) == []


# --- exporters that fail: registered by the test, otherwise as real as any ---


class Lossy(Safetensors):
    """Keeps three digits of each weight."""

    def export(self, model: Model, file: Path) -> Signature:
        signature = super().export(model, file)
        from safetensors.torch import load_file, save_file

        save_file({name: (weight * 100).round() / 100 for name, weight in load_file(file).items()}, file)
        return signature


class Broken(Safetensors):
    """Answers something else than asked."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def load(self, file: Path, version: Path, model: Model | None) -> Run:
        run = super().load(file, version, model)

        def wrong(raw: Sequence[Array]) -> Array:
            found: Array = self.answer(run(raw))
            return found

        return wrong


@pytest.fixture
def registered() -> Iterator[Any]:
    """Function that registers an exporter for one test."""
    names: list[str] = []

    def register(name: str, exporter: Any) -> None:
        exporters.register(name)(exporter)
        names.append(name)

    yield register
    for name in names:
        del exporters._entries[name]


def test_past_the_tolerance_nothing_is_published(store: Path, registered: Any) -> None:
    train()
    registered("lossy", Lossy())
    with pytest.raises(ToleranceExceeded, match=r"differs .* by up to \d\.\de-0\d; 1e-06 was accepted\.") as caught:
        maas.export("m", "lossy", tolerance=1e-6)
    assert "Nothing was published." in caught.value.message and "--tolerance 1e-0" in caught.value.hint
    assert exports(store) == [] and maas.models()[0].exports == () and list((store / "tmp").iterdir()) == []
    wide = float(caught.value.hint.split()[1])
    assert 1e-6 < maas.export("m", "lossy", tolerance=wide).verification.max_abs_diff <= wide


@pytest.mark.parametrize(
    ("answer", "kind", "told"),
    [
        (lambda answers: answers * np.nan, ToleranceExceeded, "Look for NaN"),
        (lambda answers: answers[:, :1], ExportError, r"answers \((\d+), 1\) where the model answers \(\1, 2\)"),
    ],
)
def test_answers_of_another_kind_are_refused(
    answer: Any, kind: type[MaasError], told: str, store: Path, registered: Any
) -> None:
    train()
    registered("broken", Broken(answer))
    with pytest.raises(kind, match=told):
        maas.export("m", "broken")
    assert exports(store) == []


@pytest.mark.parametrize(
    ("ending", "told"),
    [
        ("os.kill(os.getpid(), 11)", "died with signal 11"),
        ("raise ValueError('two\\nlines')", "ValueError: two lines"),
        ("os._exit(3)", "it failed"),
    ],
)
def test_a_file_that_takes_its_process_along_is_refused(
    ending: str, told: str, store: Path, tmp_path: Path, registered: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The module is found by the checking process too, which loads it by itself."""
    train()
    code = f"""
import os
import subprocess
import sys
from maas_magics.core.exporters import exporters
from maas_magics.core.exporters.safetensors import Safetensors
class Deadly(Safetensors):
    isolated = True
    def load(self, file, version, model):
        {ending}
"""
    (tmp_path / "deadly").mkdir()
    (tmp_path / "deadly" / "sitecustomize.py").write_text(
        code.replace("import os\n", "import os, sys\n") + "exporters.register('deadly')(Deadly())\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "deadly"))
    space: dict[str, Any] = {}
    exec(code, space)
    registered("deadly", space["Deadly"]())
    with pytest.raises(ExportError, match=f"The exported deadly file cannot be used: .*{told}.*Nothing was published"):
        maas.export("m", "deadly")
    assert exports(store) == []


# --- modules of a notebook ---


class Wilful(nn.Module):
    """Cannot be traced: what it does depends on the numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def forward(self, x: Tensor) -> Tensor:
        if float(x.detach().sum()) > 1e9:
            return self.layer(-x)  # type: ignore[no-any-return]
        return self.layer(x)  # type: ignore[no-any-return]


class Fixed(nn.Module):
    """Answers right for the rows it is asked as a whole, and a little else for each batch: a file of it must differ."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def forward(self, x: Tensor) -> Tensor:
        noise = 0.0 if type(x) is not Tensor else 1.0  # which no version of torch traces with
        return self.layer(x) + noise  # type: ignore[no-any-return]


def test_a_module_is_exported_where_it_is_first_asked_without_being_at_hand(store: Path) -> None:
    train("net", data=X, target=Y, model=nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1)))
    assert exports(store, "net") == []
    from maas_magics.local.backend import LocalBackend

    loader = LocalBackend(str(store)).loader
    loader.load("net")
    answers = loader.predictor("net").array(X)
    assert answers is not None and exports(store, "net") == ["onnx"]
    report = msgspec.json.decode((store / "models/net/1/exports/onnx/artifact.json").read_bytes(), type=Artifact)
    assert report.verification.max_abs_diff < 1e-4 and report.model == "net:1"
    np.testing.assert_allclose(answers["prediction"], maas.predict("net", X), atol=1e-5)


@pytest.mark.parametrize("module", [Wilful, Fixed])
def test_a_module_that_does_not_export_is_published_with_a_warning(module: type[nn.Module], store: Path) -> None:
    train("net", data=X, target=Y, model=module(), epochs=2)
    assert maas.models()[0].exports == () and exports(store, "net") == []
    told = [event for event in maas.logs(maas.jobs()[0].id) if isinstance(event, Message) and event.level == "warning"]
    assert sum(event.text.startswith("Only this kernel can run it") for event in told) == 1
    net = maas.load("net")
    with torch.no_grad():
        np.testing.assert_allclose(net(torch.from_numpy(X))[:, 0], maas.predict("net", X), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("format", ["onnx", "pt2"])
def test_a_module_that_cannot_be_traced_says_what_to_change(format: str, store: Path) -> None:
    train("net", data=X, target=Y, model=Wilful())
    with pytest.raises(ExportError, match="torch cannot trace Wilful: ") as caught:
        maas.export("net", format)
    assert caught.value.hint.startswith("Take data-dependent Python") and len(caught.value.message) < 260
    assert exports(store, "net") == []


def test_elsewhere_a_module_without_export_is_refused_with_advice(store: Path) -> None:
    train("net", data=X, target=Y, model=Wilful())
    shutil.copytree(store, store.parent / "copy")
    from maas_magics.api.requests import PredictRequest
    from maas_magics.local.backend import LocalBackend

    with pytest.raises(MaasError, match="was defined in a notebook as Wilful, and is not in this process"):
        LocalBackend(str(store.parent / "copy")).predict(PredictRequest(model="net", data=X))


def test_a_version_removed_and_trained_anew_answers_anew(store: Path) -> None:
    for sign in (1, -1):
        train("net", data=X, target=sign * Y, epochs=30, model="linear")
        assert np.sign(maas.predict("net", X) * Y).mean() * sign > 0.5
        maas.remove("net")


def test_a_process_that_waits_for_rows_ends_where_there_will_be_none() -> None:
    with pytest.raises(KeyError), started([sys.executable, "-c", "import time; time.sleep(600)"], 9):
        raise KeyError
    with started([sys.executable, "-c", "import sys; print(len(sys.stdin.buffer.read()) > 9)"], 60) as ask:
        assert ask([X]) == (0, b"True\n", [])


def test_an_onnx_file_is_opened_without_torch(store: Path) -> None:
    train()
    file = Path(maas.export("m").path) / "model.onnx"
    code = (
        "import sys; import numpy as np; from pathlib import Path\n"
        "from maas_magics.core.exporters.by_task import exporter_of\n"
        "from maas_magics.core.exporters import check, survey\n"
        "from maas_magics.core.store.manifest import read_manifest, read_processor\n"
        "version = Path(sys.argv[2]); read_processor(version)\n"
        "exporter_of('onnx', read_manifest(version).answers).load(Path(sys.argv[1]), version, None)\n"
        "print('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(file), str(store / "models/m/1")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr
