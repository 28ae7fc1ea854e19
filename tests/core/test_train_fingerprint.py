"""What a training is made of is known from its specs: every option of them counts, but those that may be said anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from test_train_resume_changed import cut, kept

from maas_magics.api.errors import OptionError
from maas_magics.api.requests import TrainRequest, specs_of
from maas_magics.api.specs import SPECS, RunSpec
from maas_magics.core.architectures import Recipe
from maas_magics.core.training.fingerprint import MAY_CHANGE, TOGETHER
from maas_magics.core.training.resolve import resolve

pytestmark = pytest.mark.usefixtures("unexported")


@pytest.mark.parametrize(
    ("then", "what"),
    [
        ({"clip": 0.5}, "clip"),
        ({"freeze": ("0.*",)}, "freeze"),
        ({"warmup": 0.1}, "warmup"),
        ({"lr_of": {"0.*": 0.1}}, "lr of"),
        ({"metrics": ("mae",)}, "metrics"),
        ({"accumulate": 2}, "batch size"),
    ],
)
def test_an_option_that_is_another_is_refused(then: dict[str, Any], what: str, tmp_path: Path) -> None:
    cut(kept(tmp_path))
    with pytest.raises(OptionError, match=f"made with another {what}"):
        kept(tmp_path, **then).run()
    assert kept(tmp_path, epochs=6, lr=0.002, patience=9, threads=1, sample=3, profile=True).run().epochs == 6


def test_every_option_counts_unless_it_is_named_as_one_that_may_change() -> None:
    names = {name for spec in SPECS if spec is not RunSpec for name in spec.__struct_fields__}
    assert set(" ".join(TOGETHER.values()).split()) | set(MAY_CHANGE) < names


def test_what_was_left_out_is_the_recipes_and_an_optimizer_by_name_is_torchs_own() -> None:
    recipe = Recipe(
        optimizer="AdamW", lr=3e-3, weight_decay=0.1, schedule="cosine", epochs=7, batch_size=9, patience=4,
        label_smoothing=0.05, optimizer_params={"betas": (0.8, 0.9)},
    )  # fmt: skip
    made = resolve(
        specs_of(TrainRequest(name="m", lr="auto", batch_size="auto", patience=0)), recipe, torch.device("cpu")
    )
    optimizer = made.optimizer
    assert (optimizer.optimizer, optimizer.lr, optimizer.weight_decay) == ("AdamW", 3e-3, 0.1)
    assert optimizer.optimizer_params == {"betas": (0.8, 0.9)} and optimizer.schedule == "cosine"
    assert (made.budget.epochs, made.budget.batch_size, made.budget.patience) == (7, 9, 0)
    assert made.find_lr and made.find_batch_size and made.task.label_smoothing == 0.05
    assert "patience" not in made.usual and "label_smoothing" in made.usual
    own = resolve(
        specs_of(TrainRequest(name="m", optimizer="SGD", optimizer_params={"momentum": 0.9})),
        recipe,
        torch.device("cpu"),
    )
    assert (own.optimizer.optimizer, own.optimizer.lr, own.optimizer.weight_decay) == ("SGD", None, None)
    assert own.optimizer.optimizer_params == {"momentum": 0.9} and own.optimizer.schedule == "cosine"
    assert msgspec.structs.asdict(own.run) == msgspec.structs.asdict(RunSpec())
