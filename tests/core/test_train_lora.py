"""Adapters beside the layers of a pretrained network, which stay: trained, kept small, added to the layers at the end."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_modalities import reviews
from tiny import folder_of
from torch import Tensor, nn

from maas_magics.api.errors import MissingDependency, OptionError
from maas_magics.core.exporters.export import ADAPTED
from maas_magics.core.networks.adapters import LoRA, adapt, merged
from maas_magics.core.training.checkpoint import FILES
from maas_magics.core.training.steps.own_state import learnt_state, load_learnt

pytest.importorskip("peft")


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    return folder_of(tmp_path / "bert", reviews()["review"])


class Network(nn.Module):
    """Something pretrained, and a layer behind it."""

    def __init__(self, pretrained: nn.Module) -> None:
        super().__init__()
        self.pretrained, self.head = pretrained, nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pretrained(x))


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert"])
def test_adapters_are_trained_and_a_plain_network_is_published(kind: str, tmp_path: Path, lab: Any) -> None:
    folder = folder_of(tmp_path / kind, reviews()["review"], kind)
    trained = lab.train(reviews(), "label", model=f"hf:{folder}", lora=4, epochs=8, lr=1e-2)
    assert trained.metrics["accuracy"] > 0.8 and trained.info.architecture == "hf"
    net = lab.net()
    assert not any("lora" in name or "base_layer" in name for name in net.state_dict())
    before = load_file(folder / "model.safetensors")
    after = net.encoders[0].inner.state_dict()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    layers = {name for name, layer in net.encoders[0].inner.named_modules() if isinstance(layer, nn.Linear)}
    assert changed == {f"{name}.weight" for name in layers}  # norms, embeddings and biases stay
    assert trained.info.parameters == sum(p.numel() for p in net.parameters())
    asked = reviews(1)[["review"]]
    found = np.asarray(lab.predict(asked)["probability_1"])
    made = lab.export()
    assert made.verification.max_abs_diff < 1e-4
    assert (
        made.notes == (ADAPTED.format("r=4,alpha=8"),) and made.notes[0] in (Path(made.path) / "README.md").read_text()
    )
    file = (Path(made.path) / "model.onnx").read_bytes()  # names of what peft puts beside a layer
    assert b"lora_A" not in file and b"lora_B" not in file and b"base_layer" not in file
    np.testing.assert_allclose(np.asarray(lab.predict(asked)["probability_1"]), found, atol=1e-4)


def test_adapters_that_are_added_answer_as_beside_the_layers() -> None:
    torch.manual_seed(0)
    net = Network(nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4)))
    x = torch.randn(6, 3)
    before = net(x)
    adapt(net, LoRA(2, 4.0))
    torch.testing.assert_close(net(x), before)  # an adapter begins with nothing
    learnt = {name for name, parameter in net.named_parameters() if parameter.requires_grad}
    assert learnt == set(learnt_state(net)) and {"head.weight", "head.bias"} < learnt
    assert sum(p.numel() for n, p in net.named_parameters() if n in learnt and "lora" in n) == 2 * (3 + 5 + 5 + 4)
    for parameter in net.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter)
    beside = net(x)
    assert not torch.allclose(beside, before)
    kept = {name: value.clone() for name, value in learnt_state(net).items()}
    nn.init.zeros_(net.head.weight)
    load_learnt(net, kept)
    torch.testing.assert_close(net(x), beside)
    with pytest.raises(RuntimeError, match=r"Missing key.*head.bias"):
        load_learnt(net, {name: value for name, value in kept.items() if name != "head.bias"})
    plain = merged(net)
    torch.testing.assert_close(plain(x), beside)
    assert [type(layer) for layer in plain.pretrained] == [nn.Linear, nn.Tanh, nn.Linear]
    assert all(parameter.requires_grad for parameter in plain.parameters())


def test_a_training_of_adapters_continues_as_one_that_never_stopped_and_keeps_little(bert: Path, lab: Any) -> None:
    def trained(name: str, **options: Any) -> dict[str, Tensor]:
        asked = {"schedule": "constant", "lora": "r=2,alpha=8", "lr": 1e-2} | options
        lab.train(reviews(), "label", name=name, model=f"hf:{bert}", **asked)
        return lab.net(name).state_dict()

    whole = trained("whole", epochs=3)
    trained("parts", epochs=1)
    parts = trained("parts", epochs=3, resume=True)
    assert all(torch.equal(parts[name], value) for name, value in whole.items())
    store = Path(lab.session.backend.place)
    sizes = [file.stat().st_size for file in store.rglob(FILES[0])] + [f.stat().st_size for f in store.rglob(FILES[1])]
    assert sizes and max(sizes) < (bert / "model.safetensors").stat().st_size


def test_adapters_of_a_network_that_two_columns_share_are_added_once(bert: Path, lab: Any) -> None:
    rows = reviews()
    rows.insert(0, "note", rows.review[::-1].to_numpy())
    lab.train(rows, "label", model=f"hf:{bert}", lora=4, lr=1e-2)
    net, asked = lab.net(), rows.drop(columns="label")
    assert net.encoders[0] is net.encoders[1] and not any("lora" in name for name in net.state_dict())
    assert lab.export().verification.max_abs_diff < 1e-4
    assert len(lab.predict(asked)["prediction"]) == len(rows)


@pytest.mark.parametrize(
    ("given", "made"),
    [(8, LoRA(8, 16.0)), ("8", LoRA(8, 16.0)), ("r=8,alpha=4", LoRA(8, 4.0)), (" alpha=4 , r=2", LoRA(2, 4.0))],
)
def test_sizes_of_adapters_are_read(given: Any, made: LoRA) -> None:
    assert LoRA.parse(given) == made == LoRA.parse(str(made))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"lora": 0}, "The rank of --lora is 0"),
        ({"lora": "r=2.5"}, r"The rank of --lora is 2\.5"),
        ({"lora": "r=2,alpha=-1"}, "alpha of --lora is -1"),
        ({"lora": "rank=2"}, "--lora has no 'rank'"),
        ({"lora": "r=two"}, "--lora 'r=two' is not valid"),
        ({"lora": 8, "probe": True}, "--probe leaves a pretrained network as it is"),
        ({"lora": 8, "model": "textcnn"}, "--lora is for pretrained networks; textcnn is not one"),
        ({"lora": 8, "model": nn.Linear(1, 1)}, "a module of your own is not one"),
        ({"lora": 8, "workers": 2}, "--lora is for one process"),
        ({"lora": 8, "unfreeze": {"encoders.*": 2}}, "and --unfreeze does not"),
    ],
)
def test_adapters_that_cannot_be_are_refused(options: Any, said: str, bert: Path, lab: Any) -> None:
    with pytest.raises(OptionError, match=said) as caught:
        lab.train(reviews(), "label", **{"model": f"hf:{bert}"} | options)
    assert caught.value.hint


def test_a_network_without_linear_layers_has_no_adapters() -> None:
    with pytest.raises(OptionError, match="there are none"):
        adapt(Network(nn.Conv1d(3, 4, 1)), LoRA(2, 4.0))


def test_adapters_name_what_brings_them(bert: Path, lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "peft" else object())
    with pytest.raises(MissingDependency, match="--lora needs peft") as caught:
        lab.train(reviews(), "label", model=f"hf:{bert}", lora=8)
    assert "maas-magics[text]" in caught.value.hint
