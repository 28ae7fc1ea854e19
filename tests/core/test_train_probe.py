"""A pretrained network that stays as it is: what it makes of each row is computed once, and a head learns from that."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Lab
from safetensors.torch import load_file
from test_entities import sentences
from test_modalities import reviews, scenes
from tiny import folder_of
from torch import Tensor, nn

import maas_magics as maas
from maas_magics.api.errors import OptionError
from maas_magics.api.events import Progress
from maas_magics.core.batches import behind
from maas_magics.core.batches.from_dataset import in_parts
from maas_magics.core.networks.pretrained import PretrainedText


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    return folder_of(tmp_path / "bert", reviews()["review"])


def priced() -> pd.DataFrame:
    """Reviews with a number and a category beside them."""
    rng = np.random.default_rng(2)
    rows = reviews()
    return rows.assign(price=rng.normal(size=len(rows)) + rows.label, shop=rng.choice(["a", "b"], len(rows)))


def encoder_of(net: nn.Module) -> PretrainedText:
    return next(module for module in net.modules() if isinstance(module, PretrainedText))


@pytest.mark.parametrize(("rows", "rate"), [(reviews(), 0.1), (priced(), 0.05)], ids=["text", "text and columns"])
def test_a_head_is_trained_and_the_whole_network_published(
    rows: pd.DataFrame, rate: float, bert: Path, lab: Lab
) -> None:
    trained = lab.train(rows, "label", model=f"hf:{bert}", probe=True, epochs=None, lr=rate)
    assert trained.info.architecture == "hf" and trained.metrics["accuracy"] > 0.7
    assert any("of 120 rows is computed once" in text for text in lab.messages)
    done = [event.done for event in lab.last.events(follow=False) if isinstance(event, Progress)]
    assert done[-1] == 120 and sorted(set(done)) == done
    before = load_file(bert / "model.safetensors")
    after = encoder_of(lab.net()).inner.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items() if name in after)
    asked = rows.drop(columns="label")
    found = np.asarray(lab.predict(asked)["probability_1"])
    assert lab.export().verification.max_abs_diff < 1e-4
    np.testing.assert_allclose(np.asarray(lab.predict(asked)["probability_1"]), found, atol=1e-4)
    assert lab.evaluate(rows, "label").values["accuracy"] > 0.7


def test_what_is_kept_is_what_the_network_makes_of_each_row_alone(
    bert: Path, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []
    kept = behind.kept

    def watched(*arguments: Any) -> Any:
        made.append((arguments[0], kept(*arguments)))
        return made[-1][1]

    monkeypatch.setattr("maas_magics.core.training.probe.kept", watched)
    lab.train(reviews(), "label", model=f"hf:{bert}", probe=True, precision="fp32", epochs=1)
    encoder = encoder_of(lab.net())
    for batches, (found, size) in made:
        vectors = found.inputs[-1]
        assert size == sum(x.numel() * x.element_size() for x in found.inputs)
        ids, targets = [], []
        for inputs, target in batches.whole():
            ids += list(inputs[-1])
            targets.append(target)
        assert torch.equal(torch.cat(targets), found.target)
        with torch.no_grad():
            alone = torch.cat([encoder(row[row != encoder.padding][None]) for row in ids])
        torch.testing.assert_close(vectors, alone, atol=1e-5, rtol=1e-4)


def test_pictures_are_looked_at_once(tmp_path: Path, lab: Lab) -> None:
    from transformers import ViTConfig, ViTModel

    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    ViTModel(ViTConfig(image_size=32, patch_size=8, **sizes)).save_pretrained(tmp_path / "vit")
    processor = {"image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 32}}
    processor |= {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (tmp_path / "vit" / "preprocessor_config.json").write_text(json.dumps(processor))
    rows = scenes()[["picture", "label"]]
    trained = lab.train(rows, "label", model=f"hf:{tmp_path / 'vit'}", probe=True, epochs=None, lr=5e-2)
    assert trained.metrics["accuracy"] > 0.7 and any("is computed once" in text for text in lab.messages)


def test_what_is_frozen_anyway_is_said_to_be_kept_by_a_probe(bert: Path, lab: Lab) -> None:
    def told(**options: Any) -> bool:
        lab.train(reviews(), "label", model=f"hf:{bert}", **options)
        return any("--probe computes what it makes of each row once" in text for text in lab.messages)

    assert told(freeze=("encoders.*",))
    assert not told(freeze=("*.embeddings.*",))
    assert not told(freeze=("encoders.*",), unfreeze={"encoders.*": 2}, epochs=2)


def test_tags_of_words_are_learnt_behind_a_network_that_stays(
    tmp_path: Path, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = sentences(90)
    folder = folder_of(tmp_path / "bert", [" ".join(words) for words in rows.tokens])
    asked = {"model": f"hf:{folder}", "probe": True, "lr": 5e-2, "epochs": 12, "schedule": "constant"}
    trained = lab.train(rows, "tags", **asked)
    assert trained.metrics["accuracy"] > 0.8
    before = load_file(folder / "model.safetensors")
    after = encoder_of(lab.net()).inner.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items() if name in after)
    found = [list(tags) for tags in lab.predict(rows[["tokens"]])["prediction"]]
    assert np.mean([given == list(true) for given, true in zip(found, rows.tags, strict=True)]) > 0.3
    assert lab.export().verification.max_abs_diff < 1e-4
    lab.train(rows, "tags", name="parts", **asked | {"epochs": 5})
    lab.train(rows, "tags", name="parts", **asked, resume=True)
    whole, parts = lab.net().state_dict(), lab.net("parts").state_dict()
    assert all(torch.equal(parts[name], value) for name, value in whole.items())
    monkeypatch.setattr("maas_magics.core.training.probe.KEPT", 10_000)
    lab.train(rows, "tags", name="large", **asked | {"epochs": 1})
    assert any("it is computed in each epoch" in text for text in lab.messages)


def test_rows_that_differ_in_length_are_padded_to_the_longest_of_their_batch() -> None:
    rows = [(torch.arange(n), torch.ones(n, 2)) for n in (3, 1, 7, 2, 5)]
    made = behind.Uneven(rows, torch.arange(5), 2, (-1.0, 0.0))
    seen: dict[int, list[int]] = {}
    batches = list(made.epoch(torch.Generator().manual_seed(0)))
    assert made.steps == len(batches) == 2  # the last one would have a single row
    for (first, x), target in [*batches, *made.whole()]:
        assert x.shape == (*first.shape, 2) and torch.equal(x[..., 0] > 0, first >= 0)
        seen |= {int(place): row[row >= 0].tolist() for place, row in zip(target, first, strict=True)}
    assert seen == {place: list(range(n)) for place, n in enumerate((3, 1, 7, 2, 5))}
    generator = torch.Generator().manual_seed(0)
    (again,) = made.epoch(generator, 1)
    assert torch.equal(again[1], batches[1][1])


def test_rows_of_about_one_length_are_together_and_each_comes_once() -> None:
    lengths = np.array([3, 90, 5, 40, 3, 1, 200, 7])
    parts = [part.tolist() for part in in_parts(lengths, 100)]
    assert sorted(place for part in parts for place in part) == list(range(8))
    assert parts[:2] == [[6], [1]]
    assert all(len(part) == 1 or len(part) * lengths[part].max() <= 100 for part in parts)


def test_a_probe_that_continues_ends_as_one_that_never_stopped(bert: Path, lab: Lab) -> None:
    def trained(name: str, **options: Any) -> dict[str, Tensor]:
        asked = {"schedule": "constant", "probe": True, "lr": 1e-2} | options
        lab.train(reviews(), "label", name=name, model=f"hf:{bert}", **asked)
        return lab.net(name).state_dict()

    whole = trained("whole", epochs=6)
    trained("parts", epochs=2)
    parts = trained("parts", epochs=6, resume=True)
    assert all(torch.equal(parts[name], value) for name, value in whole.items())


def test_what_is_too_large_to_keep_is_computed_in_each_epoch(
    bert: Path, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maas_magics.core.training.probe.KEPT", 15_000)  # 24 held-out rows would go into it
    trained = lab.train(reviews(), "label", model=f"hf:{bert}", probe=True, epochs=20, lr=0.1)
    assert any("it is computed in each epoch" in text for text in lab.messages)
    assert trained.metrics["accuracy"] > 0.7


def test_a_part_that_draws_does_not_draw_and_numbers_in_16_bits_are_kept_in_32() -> None:
    class Part(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            return nn.functional.dropout(x, 0.5, self.training).bfloat16(), x.long()

    found = behind.Fixed(Part(), nullcontext)((torch.ones(3, 2),))
    assert torch.equal(found[0], torch.ones(3, 2)) and found[1].dtype == torch.int64


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"model": "textcnn"}, "--probe is for pretrained networks; textcnn is not one"),
        ({"model": "auto"}, "--probe is for pretrained networks; fusion is not one"),
        ({"model": nn.Linear(1, 1)}, "--probe is for pretrained networks; a module of your own is not one"),
        ({"workers": 2}, "one process"),
        ({"augment": ("flip",)}, "--probe looks at each row once"),
        ({"task": "embedding", "pairs": ("review", "note")}, "for the task embedding there is nothing"),
    ],
)
def test_a_probe_of_what_is_not_pretrained_is_refused(options: Any, said: str, bert: Path, lab: Lab) -> None:
    rows, target = reviews(), "label"
    if "pairs" in options:
        rows, target = rows.assign(note=rows.review[::-1].to_numpy())[["review", "note"]], None
    with pytest.raises(OptionError, match=said) as caught:
        lab.train(rows, target, **{"model": f"hf:{bert}", "probe": True} | options)
    assert caught.value.hint


def test_probe_is_a_word_of_the_line(bert: Path, store: Path) -> None:
    from maas_magics.magics.train import COMMAND
    from maas_magics.magics.words import Names

    line = COMMAND.parse(f"mood --data rows --target label --model hf:{bert} --probe", Names({"rows": reviews()}))
    assert line["probe"] is True
    assert maas.train("mood", reviews(), "label", model=f"hf:{bert}", probe=True).info.parameters > 10_000
