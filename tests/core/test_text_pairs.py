"""Two columns of texts of one row: a pretrained network reads both, and compares them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import maas_magics as maas

WORDS = ["river", "bread", "music", "train", "garden", "winter"]
TEXTS = {"feature": {"one": "text", "other": "text"}}


def couples(rows: int = 240, seed: int = 0) -> pd.DataFrame:
    """Of two words each; alike where both have the same, in whatever order."""
    rng = np.random.default_rng(seed)
    one, other, alike = [], [], rng.integers(0, 2, rows)
    for same in alike:
        a, b, c = rng.choice(WORDS, 3, replace=False)
        one.append(f"the {a} and the {b}")
        other.append(f"the {b} and the {a}" if same else f"the {c} and the {a}")
    return pd.DataFrame({"one": one, "other": other, "label": np.where(alike == 1, "yes", "no")})


@pytest.mark.parametrize(
    "more", [{"epochs": 8, "lr": 2e-3}, {"probe": True}, {"lora": "r=4", "epochs": 25, "lr": 5e-3}]
)
def test_what_two_texts_have_in_common_is_seen(more: dict[str, Any], store: Path, bert: Path) -> None:
    if "lora" in more:
        pytest.importorskip("peft")
    rows, other = couples(), couples(80, 1)
    trained = maas.train("pair", data=rows, target="label", model=f"hf:{bert}", **TEXTS, **more)
    assert maas.evaluate("pair", other).values["accuracy"] > 0.9
    before = np.asarray(maas.predict("pair", other)["probability_yes"])
    assert maas.export("pair").verification.max_abs_diff < 1e-4
    np.testing.assert_allclose(np.asarray(maas.predict("pair", other)["probability_yes"]), before, atol=1e-4)
    assert [spec.name for spec in trained.info.signature.inputs] == ["one", "other"]


def test_texts_that_are_not_compared_have_a_network_each(store: Path, bert: Path) -> None:
    asked: dict[str, Any] = {"data": couples(60), "target": "label", "model": f"hf:{bert}", "epochs": 1, **TEXTS}
    both = maas.train("pair", **asked)
    each = maas.train("pair", params={"compare": False}, **asked)  # as all were before
    assert each.info.parameters > 1.3 * both.info.parameters
    one = maas.train("pair", **{**asked, "feature": {"one": "text"}, "features": ("one",)})
    assert one.info.parameters < both.info.parameters
    beside = maas.train("pair", **{**asked, "data": couples(60).assign(n=range(60))})
    assert beside.info.parameters > both.info.parameters
    assert len(maas.predict("pair", couples(5).assign(n=1))) == 5


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    """A folder as save_pretrained writes it, of a BERT with random weights and a tokenizer of these words."""
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    from maas_magics.core.features.tokens import train_tokenizer

    folder = tmp_path / "bert"
    config = BertConfig(
        vocab_size=400, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=64,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    source = tmp_path / "made.json"
    source.write_text(train_tokenizer(couples().one, 400))
    PreTrainedTokenizerFast(tokenizer_file=str(source), pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    return folder
