"""Two columns of texts of one row: a pretrained network reads both, and compares them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import maas_magics as maas
from maas_magics.api.errors import OptionError

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


KINDS = {
    "bert": ("[CLS]", "[SEP]", "[PAD]"),
    "roberta": ("<s>", "</s>", "<pad>"),
    "distilbert": ("[CLS]", "[SEP]", "[PAD]"),
    "plain": ("[CLS]", "[SEP]", "[PAD]"),
}


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert"])
@pytest.mark.parametrize("most", [64, 16])
def test_two_texts_are_read_as_one_as_transformers_reads_pairs(
    kind: str, most: int, store: Path, tmp_path: Path
) -> None:
    import torch
    import transformers

    folder = folder_of(kind, tmp_path, most)
    rows = couples(40).assign(n=range(40))
    rows["one"] = [text + " and so on" * (place % 3) for place, text in enumerate(rows.one)]
    asked: dict[str, Any] = {"data": rows, "target": "label", "model": f"hf:{folder}", "epochs": 1, **TEXTS}
    maas.train("pair", params={"join": True, "pooling": "cls"}, **asked)
    net = maas.load("pair")
    inner = next(module for module in net.modules() if isinstance(module, transformers.PreTrainedModel))
    known = transformers.AutoTokenizer.from_pretrained(folder)
    seen: list[torch.Tensor] = []
    hook = inner.register_forward_hook(lambda module, args, found: seen.append(found.last_hidden_state))
    maas.predict("pair", rows)
    hook.remove()
    width = min(most - 2 * (kind == "roberta"), 256)
    for row, (one, other) in enumerate(zip(rows.one, rows.other, strict=True)):
        ids = known(one, other, return_tensors="pt")
        cut = {name: values[:, :width] for name, values in ids.items() if name in known.model_input_names}
        if most > 16:
            assert width >= ids["input_ids"].shape[1]
        with torch.no_grad():
            expected = inner(**cut).last_hidden_state[0, 0]
        found = torch.cat([part[:, 0] for part in seen])[row]
        if len(known(one)["input_ids"]) < width and len(known(other)["input_ids"]) < width:
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert maas.export("pair").verification.max_abs_diff < 1e-4


def test_what_is_no_pair_is_not_joined(store: Path, tmp_path: Path) -> None:
    asked: dict[str, Any] = {"target": "label", "epochs": 1, "params": {"join": True}}
    rows = couples(40)
    with pytest.raises(OptionError, match="two columns of texts as one; there are 1"):
        maas.train(
            "no",
            rows[["one", "label"]],
            model=f"hf:{folder_of('bert', tmp_path, 64)}",
            feature={"one": "text"},
            **asked,
        )
    with pytest.raises(OptionError, match="joins no pairs"):
        maas.train("no", rows, model=f"hf:{folder_of('plain', tmp_path, 64)}", **TEXTS, **asked)


@pytest.mark.parametrize(
    "more", [{"epochs": 12, "lr": 2e-3}, {"probe": True, "epochs": 2}, {"lora": "r=4", "epochs": 2}]
)
def test_joined_texts_are_learnt(more: dict[str, Any], store: Path, tmp_path: Path) -> None:
    if "lora" in more:
        pytest.importorskip("peft")
    rows, folder = couples(), folder_of("bert", tmp_path, 64)
    rows["label"] = np.where((rows.one + rows.other).str.contains("river"), "yes", "no")
    maas.train("pair", rows, "label", model=f"hf:{folder}", params={"join": True}, **TEXTS, **more)
    before = np.asarray(maas.predict("pair", rows)["probability_yes"])
    if "lr" in more:
        assert maas.evaluate("pair", rows).values["accuracy"] > 0.9
    maas.export("pair")
    np.testing.assert_allclose(np.asarray(maas.predict("pair", rows)["probability_yes"]), before, atol=1e-4)


def folder_of(kind: str, tmp_path: Path, most: int) -> Path:
    """A folder as save_pretrained writes it, whose tokenizer puts pairs in a row as those of this kind do."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    begin, end, pad = KINDS[kind]
    words = sorted({word for text in [*couples().one, *couples().other, "so on a b"] for word in text.split()})
    vocabulary = {word: place for place, word in enumerate([begin, pad, end, "[UNK]", *words])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    process = processors.RobertaProcessing if kind == "roberta" else processors.BertProcessing
    if kind != "plain":
        made.post_processor = process((end, vocabulary[end]), (begin, vocabulary[begin]))
    folder = tmp_path / kind
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token=pad, unk_token="[UNK]", model_max_length=most - 2 * (kind == "roberta"),
        model_input_names=["input_ids", "token_type_ids", "attention_mask"][:: 2 if kind != "bert" else 1],
    ).save_pretrained(folder)  # fmt: skip
    small: dict[str, Any] = {
        "vocab_size": len(vocabulary),
        "pad_token_id": vocabulary[pad],
        "max_position_embeddings": most,
    }
    if kind == "distilbert":
        config: Any = transformers.DistilBertConfig(dim=32, n_layers=2, n_heads=2, hidden_dim=64, **small)
    else:
        make = transformers.BertConfig if kind == "bert" else transformers.RobertaConfig
        config = make(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, **small)
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    return folder


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
