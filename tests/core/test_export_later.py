"""A module is published as the graph of its answers; its ONNX export is made where it is first needed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from maas_magics.api.errors import ExportError, ModelError
from maas_magics.core.inference.later import add_export
from maas_magics.core.store.manifest import check_files
from maas_magics.core.store.models import Store

N = 40
RNG = np.random.default_rng(3)
X = RNG.normal(size=(N, 4)).astype("float32")
Y = np.arange(N) % 3


def module() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


def learn(lab: Any, net: Any, x: Any = X, y: Any = Y, **options: Any) -> Any:
    return lab.train({"x": x}, y, model=net, **options)


def asked(lab: Any, x: Any = X) -> Any:
    return lab.predict({"x": x}, probabilities=True)


def elsewhere(lab: Any) -> Any:
    """A session that has trained nothing, on the same store."""
    return type(lab)(Path(lab.session.backend.place))


def files(lab: Any) -> set[str]:
    folder = lab.session.backend.models.folder("m", 1)
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def program(code: str, store: str) -> subprocess.CompletedProcess[str]:
    """Another process on the same store."""
    places = {"MAAS_STORE": store, "MAAS_UI": "static", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", f"import numpy as np\nimport maas_magics as maas\n{code}"]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | places, check=False)


class Tied(nn.Module):
    """Two layers of one weight, a buffer that no file of weights holds, and a weight that is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.norm = nn.BatchNorm1d(4)
        self.register_buffer("scale", torch.tensor([1.0, 2.0, 3.0, 4.0]), persistent=False)
        self.head = weight_norm(nn.Linear(4, 3))

    def forward(self, x: Tensor) -> Tensor:
        answered: Tensor = self.head(self.second(self.norm(self.first(x) * self.scale)).relu() + torch.arange(4))
        return answered


class Counting(nn.Module):
    """Answers otherwise each time, from a number that no graph holds."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.calls = nn.Linear(4, 3), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        answered: Tensor = self.layer(x) * float(1 + self.calls % 5)
        return answered


class RowByRow(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.layer(row) for row in x])


class Through(nn.Module):
    """A function between two layers."""

    def __init__(self, function: Any, width: int = 8) -> None:
        super().__init__()
        self.before, self.after, self.function = nn.Linear(4, 8), nn.Linear(width, 3), function

    def forward(self, x: Tensor) -> Tensor:
        answered: Tensor = self.after(self.function(self.before(x)))
        return answered


def test_a_module_is_published_without_a_trace_and_asked_at_once(lab: Any) -> None:
    result = learn(lab, module())
    assert result.info.exports == () and "answers.zip" in files(lab)
    assert not any("export" in text for text in lab.messages)
    with torch.no_grad():
        expected = lab.net()(torch.from_numpy(X)).softmax(1).numpy()
    assert np.allclose(asked(lab), expected, atol=1e-6)
    assert lab.evaluate({"x": X}, Y).rows == N
    assert "answers.zip" in files(lab) and not any(name.startswith("exports/") for name in files(lab))


def test_another_process_makes_the_export_and_needs_no_torch(lab: Any) -> None:
    learn(lab, module())
    code = "print(maas.predict('m', {'x': np.ones((2, 4), 'float32')}).shape, maas.models()[0].exports, 'torch' in __import__('sys').modules)"
    for _ in range(2):
        done = program(code, lab.session.backend.place)
        assert done.stdout.split("\n")[-2:-1] == ["(2,) ('onnx',) False"], done.stderr
    predictor = elsewhere(lab).session.backend.loader.predictor("m")
    assert predictor.engine is not None and {"exports/onnx/model.onnx", "exports/onnx/artifact.json"} <= files(lab)
    assert np.allclose(elsewhere(lab).predict({"x": X}, probabilities=True), asked(lab), atol=1e-6)


def wait_for(look: Any) -> Any:
    """What ``look`` finds, as soon as it finds something."""
    until = time.monotonic() + 600
    while not (found := look()):
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.02)
    return found


def test_the_graph_answers_at_once_and_the_export_takes_its_place(lab: Any) -> None:
    learn(lab, module())
    other = elsewhere(lab)
    loader = other.session.backend.loader
    first = asked(other)
    engine = wait_for(lambda: loader.predictor("m").engine)
    assert engine is not None and "exports/onnx/artifact.json" in files(lab)
    assert np.allclose(first, asked(lab), atol=1e-6) and np.allclose(asked(other), first, atol=1e-6)


def test_an_export_that_comes_after_the_model_was_closed_opens_nothing(lab: Any) -> None:
    learn(lab, module())
    loader = elsewhere(lab).session.backend.loader
    assert loader.predictor("m").engine is None
    loader.unload("m")
    wait_for(
        lambda: (
            "exports/onnx/artifact.json" in files(lab)
            and not any(thread.name == "export" for thread in threading.enumerate())
        )
    )
    assert not loader.opened("m") and loader.loaded() == {"m:1": False}


def test_an_export_whose_files_went_away_meanwhile_is_no_error(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(key: tuple[str, int]) -> bool:
        raise FileNotFoundError("manifest.json")

    raised: list[Any] = []
    learn(lab, module())
    other = elsewhere(lab)
    monkeypatch.setattr(threading, "excepthook", raised.append)
    monkeypatch.setattr(other.session.backend.loader, "_export", gone)
    first = asked(other)
    wait_for(lambda: not any(thread.name == "export" for thread in threading.enumerate()))
    assert not raised and np.array_equal(asked(other), first)


def test_an_export_in_the_background_ends_with_its_process(lab: Any) -> None:
    learn(lab, module())
    code = "import torch\nprint(maas.predict('m', {'x': np.ones((2, 4), 'float32')}).shape)"
    done = program(code, lab.session.backend.place)
    assert done.stdout == "(2,)\n", done.stderr
    wait_for(lambda: not os.listdir(Path(lab.session.backend.place) / "tmp"))
    assert "answers.zip" in files(lab)


def test_a_process_that_is_killed_after_a_training_loses_nothing(lab: Any) -> None:
    code = """
import os, signal
from torch import nn
rng = np.random.default_rng(0)
maas.train("m", data=({"x": rng.normal(size=(40, 4)).astype("float32")}, np.arange(40) % 3), model=nn.Linear(4, 3), epochs=1)
os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
"""
    done = program(code, lab.session.backend.place)
    assert done.returncode not in (0, 1), done.stderr
    answers = asked(lab)
    assert answers.shape == (N, 3) and np.allclose(answers.sum(1), 1)
    assert wait_for(lambda: lab.session.backend.loader.predictor("m").engine) is not None
    assert lab.export(format="onnx").verification.rows > 0


def test_two_who_need_the_export_at_once_get_one(lab: Any) -> None:
    learn(lab, module())
    stores = [Store(lab.session.backend.place) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda store: add_export(store, "m", 1), stores)) == [True, True]
    folder = stores[0].folder("m", 1)
    check_files(folder, "exports/onnx")
    assert os.listdir(folder / "exports") == ["onnx"] and not os.listdir(stores[0].work / "tmp")


def test_many_who_ask_one_loader_wait_for_one_export(lab: Any) -> None:
    learn(lab, module())
    other = elsewhere(lab)
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: asked(other), range(3)))
    assert all(np.array_equal(found[0], each) for each in found[1:])


def test_a_store_that_takes_no_more_is_answered_from_the_graph(lab: Any) -> None:
    learn(lab, module())
    other = elsewhere(lab)
    place = Path(lab.session.backend.place) / "tmp"
    for left in place.iterdir():
        left.rmdir()
    place.rmdir()
    place.touch()
    assert np.allclose(asked(other), asked(lab), atol=1e-6)
    assert other.session.backend.loader.predictor("m").engine is None


def test_tied_hidden_and_computed_state_is_kept(lab: Any) -> None:
    learn(lab, Tied())
    graph = elsewhere(lab).net()
    with torch.no_grad():
        expected, found = (net(torch.from_numpy(X)) for net in (lab.net(), graph))
    assert torch.allclose(expected, found, atol=1e-6)
    assert elsewhere(lab).export(format="onnx").verification.max_abs_diff < 1e-5


def test_a_later_change_of_the_module_changes_no_version(lab: Any) -> None:
    net = module()
    learn(lab, lambda inputs, outputs: net)
    before = asked(lab)
    with torch.no_grad():
        for weight in lab.net().parameters():
            weight.zero_()
    lab.session.backend.loader.forget("m", None)
    assert np.array_equal(asked(lab), before)


def test_the_graph_of_answers_says_that_it_is_not_for_training(lab: Any) -> None:
    learn(lab, module())
    net = elsewhere(lab).net()
    with pytest.raises(ModelError, match="cannot be trained further") as error:
        net.train()(torch.from_numpy(X))
    assert "Run the cell" in error.value.hint


def test_what_has_no_onnx_is_answered_from_its_graph_elsewhere(lab: Any, caplog: pytest.LogCaptureFixture) -> None:
    learn(lab, Through(lambda x: torch.special.i0e(x)))
    other = elsewhere(lab)
    assert np.allclose(asked(other), asked(lab), atol=1e-6)
    wait_for(lambda: "m:1 is answered by torch, for its ONNX export failed: " in caplog.text)
    with pytest.raises(ExportError, match="torch cannot trace Through"):
        other.export(format="onnx")
    assert other.export(format="pt2").verification.max_abs_diff < 1e-5


@pytest.mark.parametrize(
    ("net", "said"), [(RowByRow(), "it fixes the number of rows"), (Counting(), "differs from the model by up to")]
)
def test_what_cannot_leave_the_kernel_is_told_with_the_training(lab: Any, net: nn.Module, said: str) -> None:
    result = learn(lab, net)
    told = [text for text in lab.messages if "Only this kernel can run it" in text]
    assert len(told) == 1 and said in told[0]
    assert result.info.exports == () and "answers.zip" not in files(lab)
    with pytest.raises(ModelError, match="is not in this process"):
        asked(elsewhere(lab))


def test_what_torch_traces_but_does_not_capture_is_published_with_its_export(lab: Any) -> None:
    result = learn(lab, Through(lambda x: torch.cdist(x, torch.ones(3, 8)), 3))
    assert result.info.exports == ("onnx",) and "answers.zip" not in files(lab)
    assert np.allclose(asked(elsewhere(lab)), asked(lab), atol=1e-5)


def test_a_graph_that_was_changed_is_named_and_not_used(lab: Any) -> None:
    learn(lab, module())
    file = lab.session.backend.models.folder("m", 1) / "answers.zip"
    file.chmod(0o600)
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(Exception, match=r"its file answers.zip was changed"):
        asked(elsewhere(lab))
