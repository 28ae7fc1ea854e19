"""Vectors of pairs: learnt against the other pairs of a batch, measured by search, exported, answered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from torch.nn import functional

import maas_magics as maas
from maas_magics.api.errors import DataError, OptionError
from maas_magics.core.tasks import retrieval
from maas_magics.core.tasks.embedding import SCALE, Embedding, contrastive
from maas_magics.core.tasks.retrieval import Ranks, RetrievalMetric, ranks

WORDS = [f"{a}{b}" for a in ("ba", "ko", "mi", "lu", "ze", "da") for b in ("ra", "ti", "no", "pe", "su", "go")]
"""A question of two of them has an answer of the same two in another spelling."""


def questions(rows: int = 240, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    told = [rng.choice(len(WORDS), 2, replace=False) for _ in range(rows)]
    return pd.DataFrame(
        {
            "question": [f"where do {WORDS[a]} and {WORDS[b]} live" for a, b in told],
            "answer": [f"x{WORDS[b][::-1]} with x{WORDS[a][::-1]} in the town" for a, b in told],
            "number": range(rows),
        }
    )


def vectors(rows: Any, name: str = "near") -> Any:
    found = np.stack(list(maas.predict(name, rows)["prediction"]))
    assert found.dtype == np.float32
    return found


def learn(rows: Any, **more: Any) -> Any:
    return maas.train("near", data=rows, task="embedding", pairs=("question", "answer"), **more)


@pytest.mark.parametrize("model", ["auto", "textcnn", "transformer"])
def test_pairs_are_learnt_evaluated_exported_and_answered(model: str, store: Path) -> None:
    rows, other = questions(), questions(80, 1)
    trained = learn(rows, model=model, epochs=8, lr=5e-3)
    assert trained.info.task == "embedding" and trained.info.target == ("question", "answer")
    (entry,), (answer,) = trained.info.signature.inputs, trained.info.signature.outputs
    assert (entry.name, entry.datatype, entry.shape) == ("question", "BYTES", (-1, 1))
    assert (answer.name, answer.datatype, answer.shape) == ("prediction", "FP32", (-1, 128))
    assert trained.metrics["mrr"] > 4 * trained.baseline["mrr"]
    assert "chance" in repr(trained)
    found = maas.evaluate("near", other)
    assert found.rows == 80 and found.values["recall@10"] > 0.5
    assert found.baseline["recall@1"] == pytest.approx(1 / other.answer.nunique(), rel=0.05)
    one, two = vectors(other[["question"]]), vectors(other[["answer"]])
    np.testing.assert_allclose(np.linalg.norm(one, axis=1), 1, atol=1e-5)
    best = (one @ two.T).argmax(1)
    recall = np.mean(other.answer.to_numpy()[best] == other.answer.to_numpy())
    assert found.values["recall@1"] == pytest.approx(recall, abs=0.05)
    for kind in ("onnx", "pt2"):
        artifact = maas.export("near", kind)
        assert artifact.verification.max_abs_diff < 1e-4
        assert artifact.verification.metrics_before == pytest.approx(artifact.verification.metrics_after, abs=0.03)
    np.testing.assert_allclose(vectors(other[["question"]]), one, atol=1e-4)


def test_a_vector_is_the_same_however_a_text_comes(store: Path) -> None:
    rows = questions()
    learn(rows, epochs=2)
    want = vectors(rows[["question"]].head(5))
    texts = rows.question.head(5).tolist()
    np.testing.assert_allclose(vectors({"question": texts}), want, atol=1e-6)
    np.testing.assert_allclose(vectors({"answer": texts}), want, atol=1e-6)  # one network makes those of both
    np.testing.assert_allclose(vectors(pl.DataFrame({"question": texts})), want, atol=1e-6)
    np.testing.assert_allclose(maas.predict("near", np.array(texts, dtype=object)), want, atol=1e-6)
    np.testing.assert_allclose(vectors(rows.head(5)), want, atol=1e-6)  # of both columns, the first
    np.testing.assert_allclose([vectors({"question": [text]})[0] for text in texts], want, atol=1e-6)
    assert np.isfinite(vectors({"question": ["", "a " * 900, "漢字 😀"]})).all()
    with pytest.raises(DataError, match="question"):
        maas.predict("near", {"other": texts})


def test_a_pretrained_folder_is_fine_tuned_or_taken_as_it_is(store: Path, bert: Path) -> None:
    from transformers import AutoModel, AutoTokenizer

    rows = questions()
    kept = learn(rows, model=f"hf:{bert}", epochs=0)
    assert kept.epochs == kept.best_epoch == 0 and 0 <= kept.metrics["recall@1"] <= 1
    texts = [*rows.question.head(9), "so"]
    told = AutoTokenizer.from_pretrained(bert)(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        states = AutoModel.from_pretrained(bert).eval()(**told).last_hidden_state
    there = told["attention_mask"].unsqueeze(-1)
    want = functional.normalize((states * there).sum(1) / there.sum(1), dim=1)
    np.testing.assert_allclose(vectors({"question": texts}), want.numpy(), atol=1e-5)
    assert maas.export("near").verification.max_abs_diff < 1e-4
    (bert / "1_Pooling").mkdir()
    (bert / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    learn(rows, model=f"hf:{bert}", epochs=0)
    first = functional.normalize(states[:, 0], dim=1)
    np.testing.assert_allclose(vectors({"question": texts}), first.numpy(), atol=1e-5)  # as the folder says
    (bert / "1_Pooling" / "config.json").unlink()
    tuned = learn(rows, model=f"hf:{bert}", epochs=4, lr=2e-3)
    assert tuned.info.signature.outputs[0].shape == (-1, 32)
    assert tuned.metrics["mrr"] > kept.metrics["mrr"]
    narrow = learn(rows, model=f"hf:{bert}", epochs=1, params={"hidden": 8})
    assert narrow.info.signature.outputs[0].shape == (-1, 8)
    with pytest.raises(OptionError, match="random weights"):
        learn(rows, model="textcnn", epochs=0)


def test_a_training_of_pairs_that_was_cut_off_goes_on(store: Path) -> None:
    rows = questions()
    whole = learn(rows, epochs=3, seed=3)

    def stops(event: Any) -> str | None:
        return "stop" if getattr(event, "epoch", 0) == 2 and hasattr(event, "baseline") else None

    learn(rows, epochs=3, seed=3, callbacks=[stops])
    resumed = learn(rows, epochs=3, seed=3, resume=True)
    assert resumed.history["val_loss"] == whole.history["val_loss"]


def target(one: list[int], other: list[int]) -> torch.Tensor:
    numbers = torch.tensor([one, other]).T.reshape(-1)
    return torch.stack([numbers, torch.arange(len(one)).repeat_interleave(2)], dim=1)


def test_pairs_that_share_a_value_are_not_negatives_of_each_other() -> None:
    torch.manual_seed(0)
    outputs = torch.randn(8, 5)
    x = functional.normalize(outputs, dim=1)
    logits = SCALE * x[0::2] @ x[1::2].T
    plain = contrastive(outputs, target([0, 1, 2, 3], [4, 5, 6, 7]))
    right = torch.arange(4)
    want = (functional.cross_entropy(logits, right) + functional.cross_entropy(logits.T, right)) / 2
    assert plain == pytest.approx(want.item(), rel=1e-5)
    kept = logits.clone()
    kept[0, 1] = kept[1, 0] = -torch.inf  # both ask the same
    kept[2, 3] = kept[3, 2] = -torch.inf  # both are answered by the same
    kept[3, 0] = -torch.inf  # what the first is answered by is what the fourth asks
    want = (functional.cross_entropy(kept, right) + functional.cross_entropy(kept.T, right)) / 2
    found = contrastive(outputs, target([0, 0, 2, 4], [4, 5, 6, 6]))
    assert found == pytest.approx(want.item(), rel=1e-5)
    same = contrastive(outputs.requires_grad_(), target([0] * 4, [1] * 4))  # nothing is left to tell apart
    same.backward()
    assert same == 0 and torch.isfinite(outputs.grad).all()  # type: ignore[arg-type]


def test_a_batch_that_is_cut_within_a_pair_loses_that_pair_alone() -> None:
    torch.manual_seed(0)
    outputs, wanted = torch.randn(12, 5), target([0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11])
    assert contrastive(outputs[3:], wanted[3:]) == contrastive(outputs[4:], wanted[4:])
    assert contrastive(outputs[:1], wanted[:1]) == 0


def by_hand(x: np.ndarray[Any, Any], one: list[int], other: list[int]) -> list[float]:
    """Rank of the best right answer of each pair, among the different answers."""
    found = []
    for place, value in enumerate(one):
        right = {b for a, b in zip(one, other, strict=True) if a == value}
        scores = {b: float(x[2 * place] @ x[2 * other.index(b) + 1]) for b in other}
        best = max(scores[b] for b in right)
        found.append(1 + sum(score > best for b, score in scores.items() if b not in right and b != value))
    return found


@pytest.mark.parametrize("rows", [2, 40, 1500])
def test_ranks_are_those_counted_one_by_one(rows: int) -> None:
    rng = np.random.default_rng(rows)
    one, other = rng.integers(0, rows, rows).tolist(), rng.integers(rows // 2, 2 * rows, rows).tolist()
    x = functional.normalize(torch.from_numpy(rng.normal(size=(2 * rows, 6))).float(), dim=1)
    for place, value in enumerate(other):
        x[2 * place + 1] = x[2 * other.index(value) + 1]  # one text has one vector
    above, ties = ranks(x, target(one, other))
    want = by_hand(x.numpy(), one, other) if rows < 1000 else None
    assert not ties.any()
    if want is not None:
        assert (above + 1).tolist() == want
    metrics = {name: RetrievalMetric(name, Ranks()) for name in ("recall@1", "recall@10", "mrr")}
    whole = {name: metric(x, target(one, other)) for name, metric in metrics.items()}
    assert whole["mrr"] == pytest.approx(float((1 / (above + 1).double()).mean()))
    assert whole["recall@10"] == pytest.approx(float((above < 10).double().mean()))
    parts = {name: metric.accumulator(None) for name, metric in metrics.items()}
    for metric in parts.values():
        for start in range(0, 2 * rows, 7):
            metric.update(x[start : start + 7], target(one, other)[start : start + 7])
    assert {name: metric.result() for name, metric in parts.items()} == pytest.approx(whole)


def test_many_pairs_are_ranked_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval, "CANDIDATES", 50)
    torch.manual_seed(0)
    x, wanted = torch.randn(240, 6), target(list(range(120)), list(range(120, 240)))
    metric = RetrievalMetric("mrr", Ranks())
    parts = [RetrievalMetric("mrr", Ranks())(x[a:b], wanted[a:b]) for a, b in ((0, 100), (100, 200), (200, 240))]
    assert metric(x, wanted) == pytest.approx(float(np.average(parts, weights=[50, 50, 20])))
    other = metric.accumulator(None)
    for start in range(0, 240, 20):
        other.update(x[start : start + 20], wanted[start : start + 20])
    assert other.result() == pytest.approx(metric(x, wanted))


def test_answers_that_are_all_alike_are_worth_chance() -> None:
    wanted = target(list(range(20)), list(range(20, 40)))
    alike = torch.ones(40, 3)
    found = {name: RetrievalMetric(name, Ranks())(alike, wanted) for name in ("recall@1", "recall@10", "mrr")}
    assert found["recall@1"] == pytest.approx(1 / 20) and found["recall@10"] == pytest.approx(0.5)
    assert found["mrr"] == pytest.approx(np.mean(1 / np.arange(1, 21)))
    task = Embedding(("a", "b"), size=3)
    assert float(task.loss("auto", None, 0.0)(torch.zeros(40, 3), wanted)) == pytest.approx(np.log(20))


def test_pairs_that_lack_a_value_are_left_out(store: Path) -> None:
    rows = questions(60)
    rows.loc[3, "answer"] = None
    rows.loc[4, "question"] = None
    rows.loc[5, "question"] = "   "
    told: list[str] = []
    learn(rows, epochs=1, validation=0, callbacks=[lambda event: told.append(getattr(event, "text", "")) or None])
    assert any("2 of 59 pairs lack a value" in text for text in told)
    assert maas.evaluate("near", rows).rows == 57


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"pairs": ("question",)}, "'question' alone was given"),
        ({"pairs": (), "task": "embedding"}, "0 columns were given"),
        ({"pairs": ("question", "question")}, "pairs of two columns"),
        ({"task": "multiclass"}, "Pairs are learnt by the task embedding"),
        ({"target": "number"}, "--target is not for pairs"),
        ({"weights": "number"}, "--weights is not for pairs"),
        ({"balance": True}, "--balance is not for pairs"),
        ({"model": "mlp"}, "a network over texts"),
        ({"model": torch.nn.Linear(2, 2)}, "a network over texts"),
        ({"loss": "mse"}, "not for vectors"),
        ({"label_smoothing": 0.1}, "Label smoothing is for labels"),
        ({"class_weights": "balanced"}, "Class weights are for one label a row"),
        ({"metrics": ("accuracy",)}, "no metric 'accuracy'"),
    ],
)
def test_what_is_not_for_pairs_is_refused(asked: dict[str, Any], message: str, store: Path) -> None:
    with pytest.raises(OptionError, match=message):
        maas.train("near", data=questions(40), **{"pairs": ("question", "answer"), "epochs": 1, **asked})


def test_columns_that_hold_no_pairs_are_refused(store: Path) -> None:
    rows = questions(40)
    for pairs, message in (
        (("question", "number"), "holds int64"),
        (("number", "answer"), "holds int64"),
        (("other", "answer"), "other"),
        (("question", "other"), "other"),
    ):
        with pytest.raises((DataError, OptionError), match=message):
            maas.train("near", data=rows, pairs=pairs, epochs=1)
    alike = rows.assign(question="the same", answer="and the same")
    with pytest.raises(DataError, match="one pair only"):
        maas.train("near", data=alike, pairs=("question", "answer"), epochs=1)


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    """A folder as save_pretrained writes it, of a BERT with random weights and a tokenizer of these words."""
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    from maas_magics.core.features.tokens import train_tokenizer

    folder = tmp_path / "bert"
    config = BertConfig(
        vocab_size=400, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=64,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    rows = questions()
    source = tmp_path / "made.json"
    source.write_text(train_tokenizer([*rows.question, *rows.answer], 400))
    PreTrainedTokenizerFast(tokenizer_file=str(source), pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    return folder
