"""A service makes models of the folders that its owner offers, and of no others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from serving import Service  # type: ignore[import-not-found]

from maas_magics.api.errors import ModelError
from maas_magics.api.requests import ImportRequest, PredictRequest
from maas_magics.core.networks.hub import OFFERED
from maas_magics.local.backend import LocalBackend
from maas_magics.remote.backend import RemoteBackend
from maas_magics.remote.client import Client

TEXTS = ["a lovely evening", "what a dreadful play"]


def folder_of(place: Path) -> Path:
    """A classifier of BERT's kind with random weights, as ``save_pretrained`` writes it."""
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    from maas_magics.core.features.tokens import train_tokenizer

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = BertConfig(vocab_size=200, initializer_range=0.5, id2label={0: "bad", 1: "fair", 2: "good"}, **sizes)
    BertForSequenceClassification(config).save_pretrained(place)
    source = place / "made.json"
    source.write_text(train_tokenizer(TEXTS * 3, 200))
    made = PreTrainedTokenizerFast(tokenizer_file=str(source), pad_token="[PAD]", unk_token="[UNK]")
    made.save_pretrained(place)
    return place


def test_what_is_offered_is_imported_and_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offered, other = folder_of(tmp_path / "offered" / "mood"), folder_of(tmp_path / "other")
    monkeypatch.setenv(OFFERED, str(offered.parent))
    service = Service(tmp_path / "served")
    try:
        remote = RemoteBackend(Client(service.url, lambda: service.token))
        with pytest.raises(ModelError, match="The service opens no pretrained network"):
            remote.submit(ImportRequest(path=str(other), name="mood")).result(600)
        assert not remote.models.list()
        rows = {"text": TEXTS, "label": ["bad", "good"]}
        info = remote.submit(ImportRequest(path=str(offered), name="mood", data=rows)).result(600)
        assert "accuracy" in info.metrics
        assert (info.ref, info.classes) == ("mood:1", ("bad", "fair", "good"))
        asked = PredictRequest(model="mood", data={"text": TEXTS}, probabilities=True)
        theirs = remote.predict(asked).columns["probabilities"]
    finally:
        service.stop()
    kernel = LocalBackend(str(tmp_path / "store"))
    kernel.submit(ImportRequest(path=str(other), name="mood")).result(600)  # a kernel opens what it likes
    kernel.submit(ImportRequest(path=str(offered), name="mood")).result(600)
    np.testing.assert_allclose(theirs, kernel.predict(asked).columns["probabilities"], atol=1e-4)
