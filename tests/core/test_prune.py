"""`%export NAME --compress prune=0.5`: a network with fewer channels, which learns again what it answered."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
import torch
from test_modalities import reviews
from torch import nn

import maas_magics as maas
from maas_magics.api.errors import ExportError, MaasError, MissingDependency, Stopped, ToleranceExceeded
from maas_magics.core.compressors.channels import what_stayed, without_channels
from maas_magics.core.exporters.steps import chain, in_order, variant_of

pytest.importorskip("torch_pruning")

rng = np.random.default_rng(1)
X = rng.normal(size=(600, 40)).astype("float32")
KIND = (X[:, 0] + X[:, 1] > 0).astype(int)
SIZE = (X[:, 2] * 3 + X[:, 3]).astype("float32")


def net(outputs: int = 2) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(40, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, outputs))


def train(target: Any = KIND, **given: Any) -> None:
    asked: dict[str, Any] = {"model": net(), "epochs": 6, "batch_size": 64, "validation": 0.3}
    maas.train("m", X, target, **asked | given)


def weights_of(artifact: Any) -> int:
    model = onnx.load(Path(artifact.path) / "model.onnx")
    return sum(int(np.prod(each.dims)) for each in model.graph.initializer)


@pytest.mark.parametrize(("target", "outputs"), [(KIND, 2), (SIZE, 1)])
def test_a_pruned_variant_has_a_third_of_the_weights_and_answers(store: Path, target: Any, outputs: int) -> None:
    train(target, model=net(outputs))
    plain = maas.export("m")
    small = maas.export("m", compress="prune=0.5", max_drop="20%")
    assert small.variant == "prune=0.5" and weights_of(small) < 0.35 * weights_of(plain)
    check = small.verification
    assert check.rows == 90 and check.max_drop == 0.2 and check.bytes_before == plain.verification.bytes_before
    assert small.notes == ("Fine-tuned on 90 of the held-out rows, and judged on the other 90.",)
    assert small.stayed[0].startswith("prune=0.5: 0% of the weights of Sequential stay (")
    name = next(iter(check.metrics_after))
    assert set(check.metrics_before) <= set(check.metrics_after) and check.lost[name].lost <= 0.2
    assert "Fine-tuned on 90" in small.report()
    answers = np.asarray(maas.predict("m@prune=0.5", X[:60]))
    exact = np.asarray(maas.predict("m", X[:60]))
    assert np.mean(answers == exact) > 0.8 if outputs == 2 else np.corrcoef(answers, exact)[0, 1] > 0.9
    assert maas.evaluate("m@prune=0.5", X, target).model == "m:1@prune=0.5"
    np.testing.assert_allclose(np.asarray(maas.predict("m", X[:60])), exact)  # the version stays as it was


def test_pruning_goes_with_what_stores_and_rows_may_be_given_without_answers(store: Path) -> None:
    train()
    plain = maas.export("m")
    both = maas.export("m", compress="int8+prune=0.5", max_drop="20%", data=X)
    assert both.variant == "int8+prune=0.5" and both.notes == ("Fine-tuned on 600 rows that were given.",)
    assert both.verification.rows == 180
    assert both.verification.bytes_after < 0.25 * plain.verification.bytes_after
    halves = maas.export("m", compress="fp16+prune=0.25", max_drop="20%")
    assert halves.variant == "fp16+prune=0.25" and halves.verification.second
    assert maas.models()[0].exports == ("fp16+prune=0.25", "int8+prune=0.5", "onnx")


def test_the_frontier_tries_it_where_rows_are_given(store: Path) -> None:
    train()
    found = maas.export("m", auto=True, max_drop="20%", data=X)
    names = [each.name for each in found.frontier]
    assert {"prune=0.5", "prune=0.5+int8", "prune=0.5+fp16"} <= set(names) and found.variant in names
    assert len(maas.predict(f"m@{found.variant}", X[:5])) == 5


def test_the_networks_of_this_package_are_pruned_where_their_code_lets_them(lab: Any) -> None:
    rows = pd.concat([reviews()] * 5)
    for model in ("textcnn", "transformer"):
        lab.train(rows, "label", model=model, epochs=3, validation=0.4)
        plain = lab.export()
        small = lab.export(compress="prune=0.5", max_drop=0.9)
        assert weights_of(small) < 0.6 * weights_of(plain), model
        assert len(lab.predict(rows[["review"]].head(3), "m@prune=0.5")["prediction"]) == 3
    table = pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "kind": KIND})
    lab.train(table, "kind", model="mlp", epochs=1, validation=0.4)
    with pytest.raises(ExportError, match="no layer that can lose channels"):
        lab.export(compress="prune=0.5")


def test_layers_whose_width_stands_in_code_stay_and_are_named() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, dropout=0.0)
    whole = nn.Sequential(nn.TransformerEncoder(layer, 1), nn.Flatten(), nn.Linear(320, 3)).eval()
    x = torch.randn(3, 10, 32)
    small = without_channels(whole, 0.5, (x,))
    share, layers = what_stayed(whole, small)
    assert small(x).shape == (3, 3) and 0.3 < share < 0.9 and "0.layers.0.self_attn" in layers
    assert small[0].layers[0].linear1.out_features == 32 and whole[0].layers[0].linear1.out_features == 64
    picture = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 3)).eval()
    cut = without_channels(picture, 0.5, (torch.randn(3, 1, 8, 8),))
    assert [cut[0].out_channels, cut[1].num_features, cut[4].in_features, cut[4].out_features] == [4, 4, 144, 3]
    with pytest.raises(ExportError, match="no layer that can lose channels, of 1 linear"):
        without_channels(nn.Linear(4, 2), 0.5, (torch.randn(3, 4),))


def test_a_loss_past_the_budget_publishes_nothing(store: Path) -> None:
    train(epochs=8)
    with pytest.raises(ToleranceExceeded, match=r"The prune=0\.99 file answers with accuracy"):
        maas.export("m", compress="prune=0.99", max_drop="1%")
    assert maas.models()[0].exports == ()


def test_a_pruning_is_stopped_between_two_steps() -> None:
    from maas_magics.core.architectures import Recipe
    from maas_magics.core.compressors.finetune import taught_by

    def stop() -> None:
        raise Stopped("enough")

    with pytest.raises(Stopped):
        taught_by(net().eval(), net(), (torch.randn(64, 40),), Recipe(), stop)


def test_names_of_variants_carry_the_share() -> None:
    assert variant_of("prune") == variant_of("prune=50%") == variant_of(" prune=.5 ") == "prune=0.5"
    assert variant_of("fp16 + prune=0.5") == "fp16+prune=0.5"
    assert [each.name for each in in_order(chain("fp16+int8+prune=0.5"))] == ["prune=0.5", "int8", "fp16"]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"compress": "prune=1.5"}, r"prune=1\.5 has no share above 0 and below 1"),
        ({"compress": "prune=0"}, "prune=0 has no share"),
        ({"compress": "prune=much"}, "prune=much has no share"),
        ({"compress": "int8=0.5"}, "int8 takes no share"),
        ({"compress": "prune=0.5+prune=0.2"}, "prune is named twice"),
        ({"compress": "int8", "data": X}, "int8 learns nothing again, and needs no rows"),
        ({"data": X}, "--data gives rows to learn on again"),
        ({"compress": "prune", "data": X[:9]}, "Fewer than 32 rows were given"),
        ({"compress": "prune"}, "30 held-out rows are too few"),
    ],
)
def test_what_cannot_be_is_refused_in_two_lines(asked: dict[str, Any], said: str, store: Path) -> None:
    train(epochs=1, validation=0.05)
    with pytest.raises(MaasError, match=said) as caught:
        maas.export("m", **asked)
    assert caught.value.hint and maas.models()[0].exports == ()


def test_it_names_what_brings_it(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(epochs=1)
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "torch_pruning" else object())
    with pytest.raises(MissingDependency, match="--compress prune needs torch-pruning") as caught:
        maas.export("m", compress="prune")
    assert "maas-magics[prune]" in caught.value.hint
