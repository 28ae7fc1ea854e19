"""The default network for tables: what its first layer computes, how it is trained, and what goes on with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from maas_magics.api.events import Started
from maas_magics.core.architectures import NetworkInputs, architectures
from maas_magics.core.architectures.tabm import FEWEST_AVERAGED
from maas_magics.core.model import load_model
from maas_magics.core.networks.layers import BlockLinear, SharedLinear
from maas_magics.core.tasks.multiclass import Multiclass

N = 90
rng = np.random.default_rng(0)
FRAME = pd.DataFrame(
    {
        "size": np.where(rng.random(N) < 0.1, np.nan, rng.normal(size=N)),
        "count": rng.integers(0, 50, N),
        "kind": rng.choice(["p", "q", "r"], N),
        "place": rng.choice([f"at {i}" for i in range(14)], N),
    }
)
FRAME["label"] = np.where(FRAME["count"] > 25, "high", "low")
FRAME["price"] = FRAME["count"] * 2.0 + (FRAME["kind"] == "p")


def shown(lab: Any) -> dict[str, str]:
    """What a person sees of the newest training."""
    return next(event.summary for event in lab.last.events(follow=False) if isinstance(event, Started))


@pytest.mark.parametrize(
    ("chunks", "blocks", "sizes"),
    [((4, 3, 8), 16, [4, 3, 8]), ((4, 0, 3), 16, [4, 3]), ((2,) * 7, 3, [6, 6, 2]), ((2,) * 6, 3, [4, 4, 4])],
)
def test_blocks_are_one_layer_for_each_member(chunks: tuple[int, ...], blocks: int, sizes: list[int]) -> None:
    torch.manual_seed(0)
    layer = BlockLinear(chunks, 5, 3, blocks)
    assert layer.sizes == sizes
    usual = SharedLinear(sum(chunks), 5, 3)
    state = dict(layer.state_dict())
    state["r"] = layer.r.repeat_interleave(torch.tensor(sizes), dim=1).unsqueeze(1)
    usual.load_state_dict(state)
    rows = torch.randn(11, sum(chunks))
    torch.testing.assert_close(layer(rows), usual(rows.unsqueeze(0)))


def test_a_row_without_columns_has_an_answer() -> None:
    net = architectures.get("tabm").build(NetworkInputs(), Multiclass(("y",), ("a", "b")), {})
    assert net(torch.zeros(6, 0), torch.zeros(6, 0, dtype=torch.long)).shape == (6, 8, 2)


def test_dropped_units_are_the_same_in_every_member() -> None:
    net: Any = architectures.get("tabm").build(NetworkInputs(3), Multiclass(("y",), ("a", "b")), {"dropout": 0.5})
    dropped = net._dropped(torch.ones(8, 20, 30))
    assert torch.equal(dropped, dropped[:1].expand_as(dropped))
    assert set(dropped.unique().tolist()) == {0.0, 2.0}
    assert torch.equal(net.eval()._dropped(torch.ones(8, 20, 30)), torch.ones(8, 20, 30))


@pytest.mark.parametrize("columns", [["size", "count"], ["kind", "place"], ["size", "count", "kind", "place"]])
@pytest.mark.parametrize("target", ["label", "price"])
def test_any_columns_are_learnt_and_another_process_builds_the_network_again(
    lab: Any, columns: list[str], target: str
) -> None:
    result = lab.train(FRAME[[*columns, target]], target, model="auto", epochs=6)
    assert result.info.architecture == "tabm"
    assert result.history["loss"][-1] < result.history["loss"][0]
    again = load_model(Path(lab.session.store) / "models" / "m" / "1")
    known = lab.net().state_dict()
    assert all(torch.equal(value, known[name]) for name, value in again.net.state_dict().items())


def test_figures_are_those_of_the_averaged_weights(lab: Any) -> None:
    held = FRAME[::3]
    given = {"model": "tabm", "validation": held, "epochs": 5, "metrics": ["log_loss"]}
    result = lab.train(FRAME.drop(held.index), "label", **given)
    assert lab.evaluate(held, metrics=["log_loss"])["log_loss"] == pytest.approx(result.metrics["log_loss"], rel=1e-5)


def test_the_average_reaches_over_as_many_rows_whatever_the_batch(lab: Any) -> None:
    decays = {}
    for options in ({"batch_size": 8}, {"batch_size": 16}, {}, {"batch_size": 8, "accumulate": 2}):
        lab.train(FRAME, "label", model="tabm", validation=0, **options)
        decays[str(options)] = float(shown(lab)["ema"])
    eight, sixteen, usual, twice = decays.values()
    assert usual == pytest.approx(1 - 1 / FEWEST_AVERAGED, rel=1e-3)
    assert sixteen == pytest.approx(usual**0.5, rel=1e-3) == pytest.approx(eight**2, rel=1e-3)
    assert twice == sixteen


@pytest.mark.parametrize(("rows", "steps"), [(20, 15), (480, 15), (6_000, 23), (64_000, 125)])
def test_the_average_reaches_over_an_epoch_of_many_steps(rows: int, steps: int) -> None:
    recipe = architectures.get("tabm").recipe(rows, Multiclass(("y",), ("a", "b")))
    assert recipe.ema == pytest.approx(1 - 1 / steps)


def test_the_average_can_be_left_out(lab: Any) -> None:
    lab.train(FRAME, "label", model="tabm", ema=0)
    assert "ema" not in shown(lab)
    lab.train(FRAME, "label", model="tabm", ema=0.7)
    assert shown(lab)["ema"] == "0.7"


def test_it_goes_on_to_the_bit(lab: Any, tmp_path: Path) -> None:
    options: dict[str, Any] = {"model": "auto", "patience": 0, "checkpoint_every": "1"}
    whole = lab.train(FRAME, "label", name="whole", epochs=6, schedule="constant", **options)
    lab.train(FRAME, "label", name="cut", epochs=3, schedule="constant", **options)
    again = lab.train(FRAME, "label", name="cut", epochs=6, schedule="constant", resume=True, **options)
    assert again.history == whole.history
    one, other = lab.net("whole").state_dict(), lab.net("cut").state_dict()
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_what_began_with_another_default_goes_on_with_it(lab: Any) -> None:
    lab.train(FRAME, "label", model="mlp", params={"members": 2}, epochs=2)
    again = lab.train(FRAME, "label", model="auto", params={"members": 2}, epochs=4, resume=True)
    assert (again.info.architecture, again.epochs) == ("mlp", 4)
    assert lab.train(FRAME, "label", model="auto", epochs=1).info.architecture == "tabm"
