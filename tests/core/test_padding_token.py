"""A padding token that somebody wrote into a text is a token of it; only what is behind a text is padding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from tiny import folder_of  # type: ignore[import-not-found]
from torch import nn

from maas_magics.core.features.port import Port
from maas_magics.core.networks.bag_of_words import Bag
from maas_magics.core.networks.encoders import TextCNN, TextTransformer
from maas_magics.core.networks.padding import before_padding

TEXTS = [f"the {word} was {mood} and {end}" for word in ("film", "book", "play") for mood in ("good", "bad") for end in
         ("long", "short", "new", "old")]  # fmt: skip
ROWS = pd.DataFrame({"text": TEXTS * 2, "label": ["good" in text for text in TEXTS] * 2})
ODD = ["the film [PAD] was good and long", "the film was good and long [PAD] [PAD] bad", "[PAD]", "a short one", ""]


def test_only_what_is_behind_a_row_is_padding() -> None:
    ids = torch.tensor([[5, 0, 6, 0], [0, 0, 0, 0], [0, 2, 3, 4]])
    assert before_padding(ids, 0).tolist() == [[True, True, True, False], [False] * 4, [True] * 4]
    windows = before_padding(torch.stack([ids, ids.flip(1)], 1), 0)
    assert windows[0].tolist() == [[True, True, True, False], [True] * 4]


@pytest.mark.parametrize("made", [TextCNN, TextTransformer, lambda port: Bag(port, 3, 50)])
def test_a_network_reads_it_as_a_token_of_the_text(made: Any) -> None:
    torch.manual_seed(0)
    net = made(Port("text", (-1,), 9, 0)).eval()
    with torch.no_grad():
        for weight in net.parameters():
            weight += 0.1 * torch.randn_like(weight)
        for table in net.modules():
            if isinstance(table, nn.Embedding) and table.padding_idx is not None:
                table.weight[table.padding_idx].zero_()
        inside, without, alone = (net(torch.tensor([ids])) for ids in ([5, 0, 6, 0, 0], [5, 6, 0, 0, 0], [5, 0, 6]))
    assert torch.allclose(inside, alone, atol=1e-6) and not torch.allclose(inside, without, atol=1e-4)


@pytest.mark.parametrize("model", ["bow", "textcnn", "fusion"])
def test_answers_are_the_same_alone_in_a_batch_and_in_the_export(lab: Any, model: str) -> None:
    lab.train(ROWS, "label", model=model, feature={"text": "text"}, epochs=2)
    table = pd.DataFrame({"text": ODD})

    def asked(rows: pd.DataFrame) -> Any:
        return lab.predict(rows, probabilities=True).select_dtypes("number").to_numpy()

    together = asked(table)
    assert np.allclose(together, np.concatenate([asked(table[row : row + 1]) for row in range(len(ODD))]), atol=1e-6)
    lab.export(format="onnx")
    assert np.allclose(together, asked(table), atol=1e-5)


def test_a_pretrained_network_attends_to_it_as_transformers_does(lab: Any, tmp_path: Path) -> None:
    import transformers

    folder = folder_of(tmp_path / "bert", TEXTS)
    lab.train(ROWS, "label", model=f"hf:{folder}", epochs=1, lr=1e-12)
    net = lab.net()
    known = transformers.AutoTokenizer.from_pretrained(folder)
    theirs = transformers.AutoModel.from_pretrained(folder).eval()
    ids = torch.tensor(known(ODD[0])["input_ids"])[None]
    assert (ids[0, 1:-1] == known.pad_token_id).any()
    with torch.no_grad():
        expected = theirs(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state.mean(1)
        found = net.encoders[0](torch.nn.functional.pad(ids, (0, 4), value=known.pad_token_id))
    assert torch.allclose(found, expected, atol=1e-5)
