"""Large matrix products go to oneDNN where that is faster and as exact; small ones, and chosen ones, stay."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from conftest import Lab
from torch import Tensor, nn

from maas_magics.api.events import CheckpointSaved, Resumed, Started
from maas_magics.core.training.steps.matmul_backend import _Products, onednn_is_exact, onednn_pays, through_onednn

pytestmark = pytest.mark.usefixtures("unexported")

x86 = pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="this torch has one library for products")
gains = pytest.mark.skipif(
    not onednn_pays(nn.Linear(1024, 1024), (torch.zeros(2, 1024),), 512), reason="MKL is as fast on this processor"
)
matmul = getattr(torch.backends.mkldnn, "matmul", None)
made = np.random.default_rng(0)
WIDE = made.normal(size=(512, 512)).astype("float32")
LABELS = made.integers(0, 3, 512)


@pytest.fixture
def asked() -> Iterator[None]:
    """Somebody has said how exact products are to be."""
    assert matmul is not None
    matmul.fp32_precision = "ieee"
    yield
    matmul.fp32_precision = "none"


def wide(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, 512), nn.ReLU(), nn.Dropout(0.1), nn.Linear(512, outputs))


def summary(lab: Lab) -> dict[str, str]:
    assert lab.last is not None
    return next(event.summary for event in lab.last.events(follow=False) if isinstance(event, Started))


def test_every_product_of_a_step_is_counted() -> None:
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    with _Products() as products:
        net(torch.ones(3, 5, 8)).sum().backward()
    first, last = 3 * 5 * 8 * 16, 3 * 5 * 16 * 4
    assert products.sizes[:2] == [first, last], "three rows of five tokens"
    assert sorted(products.sizes[2:]) == sorted([first, last, last]), "the tokens need no gradient"
    with _Products() as products:
        torch.bmm(torch.ones(2, 3, 4), torch.ones(2, 4, 5))
        torch.mm(torch.ones(2, 3).double(), torch.ones(3, 4).double())
    assert products.sizes == [2 * 3 * 4 * 5], "fp32 is what there are two libraries for"


def test_small_products_stay_and_nothing_is_touched() -> None:
    net = nn.Sequential(nn.Linear(10, 20), nn.BatchNorm1d(20), nn.Dropout(0.5), nn.Linear(20, 10))
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    random = torch.get_rng_state()
    assert not onednn_pays(net, (torch.ones(2, 10),), 32)
    assert not onednn_pays(net, (), 32)
    assert not onednn_pays(nn.ReLU(), (torch.ones(2, 10),), 32)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())


def test_a_network_that_fails_on_the_example_is_told_by_the_training() -> None:
    assert not onednn_pays(nn.Linear(4, 4), (torch.ones(2, 5),), 2**30)


@x86
def test_the_setting_of_a_process_is_put_back() -> None:
    assert matmul is not None and matmul.fp32_precision == "none"
    with pytest.raises(ZeroDivisionError), through_onednn():
        assert 1 / (matmul.fp32_precision != "bf16")
    assert matmul.fp32_precision == "none"
    with through_onednn():
        matmul.fp32_precision = "ieee"  # somebody says so meanwhile
    assert matmul.fp32_precision == "ieee"
    matmul.fp32_precision = "none"
    with through_onednn():
        assert torch.get_float32_matmul_precision() in ("medium", "highest"), "the older switch can be read"
    assert torch.get_float32_matmul_precision() == "highest"
    with through_onednn():
        torch.set_float32_matmul_precision("high")
    assert torch.get_float32_matmul_precision() == "high"
    torch.set_float32_matmul_precision("highest")
    matmul.fp32_precision = torch.backends.cuda.matmul.fp32_precision = "none"


@x86
def test_what_somebody_has_said_stays(asked: None) -> None:
    assert not onednn_pays(nn.Linear(1024, 1024), (torch.zeros(2, 1024),), 512)
    assert matmul is not None
    with through_onednn():
        assert matmul.fp32_precision == "ieee"


@gains
@pytest.mark.parametrize("shape", [(128, 64, 256), (2048, 128, 384), (33, 517, 129), (512, 512, 512)])
def test_products_are_as_exact_as_before(shape: tuple[int, int, int]) -> None:
    rows, width, outputs = shape
    x, w, gradient = torch.randn(rows, width), torch.randn(outputs, width), torch.randn(rows, outputs)

    def errors() -> list[float]:
        pairs: list[tuple[Tensor, Tensor]] = [(x, w.t()), (gradient, w), (gradient.t(), x)]
        exact = [a.double() @ b.double() for a, b in pairs]
        return [((a @ b - c).abs().max() / c.abs().max()).item() for (a, b), c in zip(pairs, exact, strict=True)]

    before = errors()
    with through_onednn():
        assert errors() == pytest.approx(before, abs=2e-6)


@gains
def test_a_wide_network_trains_on_it_and_says_so(lab: Lab) -> None:
    options = {"model": wide, "epochs": 2, "batch_size": 128, "patience": 0}
    lab.train(WIDE, LABELS, name="ours", **options)
    assert summary(lab)["products"] == "oneDNN products"
    assert matmul is not None and matmul.fp32_precision == "none"
    again = lab.train(WIDE, LABELS, name="again", **options)
    matmul.fp32_precision = "ieee"
    try:
        plain = lab.train(WIDE, LABELS, name="plain", **options)
    finally:
        matmul.fp32_precision = "none"
    assert "products" not in summary(lab)
    ours = lab.net("ours").state_dict()
    assert all(torch.equal(tensor, ours[name]) for name, tensor in lab.net("again").state_dict().items())
    assert again.history["loss"] == pytest.approx(plain.history["loss"], rel=1e-3)
    assert again.history["val_loss"] == pytest.approx(plain.history["val_loss"], rel=1e-3)


@gains
def test_16_bits_and_small_batches_go_without_saying(lab: Lab) -> None:
    lab.train(WIDE, LABELS, model=wide, batch_size=128, precision="bf16")
    assert "products" not in summary(lab)
    lab.train(WIDE, LABELS, model=wide, batch_size=1)
    assert "products" not in summary(lab)


@gains
def test_a_training_that_goes_on_keeps_to_its_library(lab: Lab) -> None:
    options = {"model": wide, "batch_size": 128, "patience": 0}
    assert matmul is not None
    matmul.fp32_precision = "ieee"
    try:
        lab.train(WIDE, LABELS, epochs=1, **options)
    finally:
        matmul.fp32_precision = "none"
    assert lab.last is not None and any(isinstance(e, CheckpointSaved) for e in lab.last.events(follow=False))
    lab.train(WIDE, LABELS, epochs=2, resume=True, **options)
    assert any(isinstance(e, Resumed) for e in lab.last.events(follow=False))
    assert "products" not in summary(lab)


@gains
def test_workers_take_their_products_so_too(lab: Lab) -> None:
    options = {"model": wide, "batch_size": 256, "patience": 0, "epochs": 2}
    alone = lab.train(WIDE, LABELS, name="alone", **options)
    two = lab.train(WIDE, LABELS, name="two", workers=2, **options)
    assert summary(lab)["products"] == "oneDNN products"
    assert two.history["loss"][0] == pytest.approx(alone.history["loss"][0], rel=0.1), "dropout differs"


@x86
def test_whether_it_is_exact_is_measured() -> None:
    """A processor with a unit for bf16 rounds; one without does not. Either way the answer is right."""
    told = subprocess.run(
        [
            sys.executable,
            "-c",
            "from maas_magics.core.training.steps.matmul_backend import *; print(onednn_is_exact())",
        ],
        capture_output=True,
        text=True,
        check=True,
        env={"ONEDNN_MAX_CPU_ISA": "AVX2", "PATH": ""},
    )
    assert told.stdout.strip() == "True", "AVX2 has no such unit"
    x = torch.randn(512, 512)
    with through_onednn():
        error = (x @ x - x.double() @ x.double()).abs().max() / (x.double() @ x.double()).abs().max()
    assert bool(error < 1e-5) is onednn_is_exact()
