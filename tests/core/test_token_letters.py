"""What networks of texts from scratch make of the letters of tokens."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from maas_magics.core.features.port import Port
from maas_magics.core.features.tokens import PAD, tokenizer, train_tokenizer
from maas_magics.core.networks.bag_of_words import Bag
from maas_magics.core.networks.encoders import TextCNN
from maas_magics.core.networks.letters import letters_of
from maas_magics.core.networks.looks import looks_of, shape_of

TEXTS = ["Anna walked and talked in ROME on 12 May", "anna walking, talking @home #now"] * 3
SOURCE = train_tokenizer(TEXTS, lowercase=False)
KNOWN = tokenizer(SOURCE, 0).get_vocab()
PORT = Port("text", (-1,), len(KNOWN), KNOWN[PAD], tokenizer=SOURCE)


def test_tokens_share_numbers_for_letters_that_they_have_in_common() -> None:
    found = letters_of(SOURCE, len(KNOWN), 2**17)
    one, other, far = (set(found[KNOWN[word]].tolist()) - {0} for word in ("walked", "walking", "Anna"))
    assert len(one) == 6 + 5 + 4 and len(one & other) == len({"<wa", "wal", "alk", "<wal", "walk", "<walk"})
    assert not one & far and not found[KNOWN[PAD]].any() and found.max() <= 2**17


@pytest.mark.parametrize(
    ("token", "shape"), [("", 0), (",", 1), ("@", 2), ("12", 3), ("a1", 3), ("ROME", 4), ("Anna", 5), ("I", 5), ("walk", 6), ("iPod", 7)]
)  # fmt: skip
def test_a_shape_tells_names_numbers_and_signs(token: str, shape: int) -> None:
    assert shape_of(token) == shape


def test_looks_are_the_same_in_any_case_but_for_the_shape() -> None:
    found = looks_of(SOURCE, len(KNOWN), KNOWN[PAD])
    upper, lower = found[:, KNOWN["Anna"]], found[:, KNOWN["anna"]]
    assert upper[0] == lower[0] == KNOWN["anna"] and upper[1] == 5 and lower[1] == 6
    assert (upper[2:] == lower[2:]).all() and not found[1:, KNOWN[PAD]].any()


def test_a_bag_answers_an_unseen_token_by_its_letters() -> None:
    bag = Bag(PORT, 1, 50, 2**12)
    ids = torch.tensor([[KNOWN["walked"], KNOWN["talked"]]])
    optimizer = torch.optim.Adam(bag.parameters(), 0.1)
    for _ in range(20):
        optimizer.zero_grad()
        (bag(ids) - 1.0).square().sum().backward()
        optimizer.step()
    with torch.no_grad():
        near, far, padded = (bag(torch.tensor([row])) for row in ([KNOWN["walking"]], [KNOWN["12"]], [0, 0]))
    assert near > 0.1 and far.abs() < 0.05 and padded == 0


def test_padding_has_no_looks() -> None:
    torch.manual_seed(0)
    net = TextCNN(PORT, 16, 8, looks=True).eval()
    ids = torch.tensor([[KNOWN["Anna"], KNOWN["walked"], PORT.padding, PORT.padding]])
    with torch.no_grad():
        assert torch.allclose(net(ids), net(ids[:, :2]), atol=1e-6)
        assert torch.allclose(net.states(ids)[:, :2], net.states(ids[:, :2]), atol=1e-6)
    assert net.looks is not None and not net.state_dict().keys() & {"looks.found"}
    assert np.isfinite(net(ids).detach().numpy()).all()
