"""What may be asked of the steps of a training, asked of one that is shared between two processes."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Lab
from test_train_workers import LABELS, Kept, Killing, X, Y, linux, marked, near, net, weights
from torch import Tensor, nn

from maas_magics.api.errors import MaasError, ModelError, OptionError, Suspended
from maas_magics.api.events import CheckpointSaved, EpochEnd, RateSearch, Resumed, Started
from maas_magics.core.networks.source import run_source
from maas_magics.core.training.checkpoint import Checkpoints

pytestmark = pytest.mark.usefixtures("unexported")

assert marked  # no worker outlives its training

BF16 = 2**-7
"""Most that weights learnt in bf16 differ by between one process and several, as a share of the way they went; a number
in bf16 is rounded by up to 2⁻⁹, and the gradient is a sum of differently rounded parts."""

PARTS: dict[str, Any] = {"freeze": ("0.*",), "unfreeze": {"0.weight": 3}, "lr_of": {"2.*": 3e-3}}

PLAIN: dict[str, dict[str, Any]] = {
    "clip, average, parts, rate found": {"target": Y, "model": net(), "clip": 0.5, "ema": 0.9, "lr": "auto", **PARTS},
    "accumulated, class weights": {"target": LABELS, "class_weights": "balanced", "accumulate": 3, "batch_size": 11},
}

SHARDED: dict[str, dict[str, Any]] = {
    "clip, average, parts, rate found": PLAIN["clip, average, parts, rate found"],
    "by name, balanced, accumulated, clip": {
        "target": LABELS,
        "model": "mlp",
        "params": {"dropout": 0.0},
        "batch_size": 10,
        "accumulate": 3,
        "balance": True,
        "clip": 1.0,
    },
    "fp16 that never overflows": {"target": LABELS, "precision": "fp16", "clip": 0.3, "lr": 0.01},
}


@pytest.mark.parametrize(("case", "shard"), [*((case, False) for case in PLAIN), *((case, True) for case in SHARDED)])
def test_two_processes_learn_what_one_does(case: str, shard: bool, lab: Lab) -> None:
    options = {"epochs": 4, "seed": 3, "batch_size": 32} | (SHARDED if shard else PLAIN)[case]
    one = lab.train(X, name="one", **options)
    searches = [e for e in lab.last.events(follow=False) if isinstance(e, RateSearch)]
    two = lab.train(X, name="two", workers=2, shard=shard, **options)
    most = 1e-3 if "precision" in options else 1e-5
    near(weights(lab, "one"), weights(lab, "two"), most)
    assert two.history["loss"] == pytest.approx(one.history["loss"], abs=most)
    assert two.history["val_loss"] == pytest.approx(one.history["val_loss"], abs=most)
    found = [e for e in lab.last.events(follow=False) if isinstance(e, RateSearch)]
    assert [e.chosen for e in found] == [e.chosen for e in searches] and len(found) == (options.get("lr") == "auto")
    started = next(e for e in lab.last.events(follow=False) if isinstance(e, Started))
    assert started.summary["workers"] == ("2 processes, sharded" if shard else "2 processes")


def test_in_bf16_they_come_as_near_as_its_digits_allow(lab: Lab) -> None:
    options = {"target": Y, "model": net(), "epochs": 6, "optimizer": "SGD", "lr": 0.05, "batch_size": 32}
    lab.train(X, name="wide", **options)
    lab.train(X, name="one", precision="bf16", **options)
    lab.train(X, name="two", precision="bf16", workers=2, **options)
    lab.train(X, name="shards", precision="bf16", workers=2, shard=True, **options)
    found = {n: torch.cat([t.flatten() for t in weights(lab, n).values()]) for n in ("wide", "one", "two", "shards")}
    way = float((found["one"] - torch.cat([t.flatten() for t in net().state_dict().values()])).norm())
    for name in ("two", "shards"):
        assert float((found[name] - found["one"]).norm()) < BF16 * way
        assert float((found[name] - found["wide"]).norm()) > 1e-5, "the workers computed in fp32"


def test_the_batch_that_is_found_is_one_workers(lab: Lab) -> None:
    rows, target = np.tile(X, (4, 1)), np.tile(Y, 4)
    lab.train(rows, target, name="two", model=net(), batch_size="auto", epochs=2, workers=2, validation=0.0)
    started = next(e for e in lab.last.events(follow=False) if isinstance(e, Started))
    whole, each = (int(text.split()[0]) for text in started.summary["batch size"].split(", ")[:2])
    assert whole == 2 * each and each >= 16 and "for a worker, found: " in started.summary["batch size"]
    assert started.steps_per_epoch in (len(rows) // whole, -(-len(rows) // whole)) and started.steps_per_epoch >= 8
    lab.train(rows, target, name="one", model=net(), batch_size=whole, epochs=2, validation=0.0)
    near(weights(lab, "one"), weights(lab, "two"))


# --- stop and death ---


later = itertools.count()


def later_error(decoded: Tensor, target: Tensor) -> float:
    """Says that each epoch is worse than the one before."""
    return float(next(later))


def test_suspended_shards_go_on_exactly(store: Path) -> None:
    options: dict[str, Any] = {"metrics": (later_error,), "monitor": "later_error", "patience": 0}
    options |= {"epochs": 12, "clip": 0.5, "ema": 0.95, "accumulate": 2, "batch_size": 16}
    options |= {"freeze": ("0.*",), "unfreeze": {"0.weight": 3, "0.bias": 9}, "checkpoint_every": "5"}
    kept = Kept(store, workers=2, shard=True, **options)
    with pytest.raises(Suspended):
        kept.run(lambda: "suspend" if len(kept.of(EpochEnd)) >= 4 else "")
    saved = kept.of(CheckpointSaved)[-1].step
    assert Checkpoints(kept.folder).chosen_before()["batch_size"] == 16, "what was found by trying stays"
    result = kept.run()
    assert kept.of(Resumed)[0].step == saved
    alone = Kept(store.parent / "alone" / "store", **options).run()
    assert result.history["loss"] == pytest.approx(alone.history["loss"], abs=1e-5)
    assert result.history["val_loss"] == pytest.approx(alone.history["val_loss"], abs=1e-5)
    assert result.epochs == 12


@linux
def test_a_killed_worker_costs_nothing_but_time(lab: Lab) -> None:
    options = {"target": LABELS, "epochs": 20, "batch_size": 8, "accumulate": 2, "clip": 0.5, "ema": 0.9}
    options |= {"balance": True, "checkpoint_every": "40", "lr_of": {"*bias": 1e-3}}
    lab.train(X, name="one", **options)
    job = lab.start(X, name="two", workers=2, metrics=(Killing(1),), **options)
    result = job.result(120)
    assert any(isinstance(e, Resumed) for e in job.events(follow=False)) and result.epochs == 20
    near(weights(lab, "one"), weights(lab, "two"))


# --- too large for memory, and what a graph cannot do ---

SMALL = """import os
class Small(torch.nn.Module):
    \"\"\"Has memory for ten rows in the second worker.\"\"\"

    def __init__(self):
        super().__init__()
        self.first, self.norm = torch.nn.Linear(inputs, 8), torch.nn.BatchNorm1d(8)
        self.last = torch.nn.Linear(8, outputs)

    def forward(self, x):
        if self.training and len(x) > 10 and os.environ.get("RANK") == "1":
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return self.last(self.norm(self.first(x)).relu() if float(x.sum()) > -1e9 else x)

torch.manual_seed(0)
Small()"""


def test_a_worker_with_less_memory_takes_its_rows_in_parts(lab: Lab) -> None:
    options = {"target": Y, "model": run_source(SMALL), "source": SMALL, "epochs": 3, "freeze": ("norm.*",)}
    lab.train(X, name="one", accumulate=2, **options)
    lab.train(X, name="two", accumulate=2, workers=2, **options)
    near(weights(lab, "one"), weights(lab, "two"))
    divided = [text for text in lab.messages if "memory" in text]
    assert len(divided) == 1 and divided[0].startswith("Worker process 1: 16 rows are too many for memory")
    assert "2 parts" in divided[0]


def test_shards_too_large_for_memory_end_with_a_clear_error(lab: Lab) -> None:
    with pytest.raises(MaasError, match="Memory is too small for the training: .*allocate memory") as caught:
        lab.train(X, Y, model=run_source(SMALL), source=SMALL, workers=2, shard=True)
    assert "--batch-size auto" in caught.value.hint


def test_a_batch_norm_that_is_frozen_in_a_graph_is_refused(lab: Lab) -> None:
    normed = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))
    with pytest.raises(ModelError, match="The module cannot go to workers: .*batch-norm") as caught:
        lab.train(X, Y, model=normed, freeze=("1.*",), workers=2)
    assert "--workers 1" in caught.value.hint


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"compile": True}, "--compile is for one process"),
        ({"fast": "auto"}, "--fast is for one process"),
        ({"profile": True}, "--profile is for one process"),
        ({"balance": True}, "Rows are balanced by their label"),
        ({"freeze": ("9.*",)}, "matches '9"),
        ({"unfreeze": {"0.*": 9}, "freeze": ("0.*",)}, "never comes"),
        ({"precision": "fp16", "optimizer": "LBFGS"}, "which fp16 cannot"),
    ],
)
def test_what_cannot_be_is_told_before_anything_starts(options: dict[str, Any], told: str, lab: Lab) -> None:
    with pytest.raises(OptionError, match=told) as caught:
        lab.train(X, Y, model=net(), workers=2, **options)
    assert caught.value.hint
    assert not any(isinstance(e, Started) for e in lab.last.events(follow=False))
