"""`%train NAME --teacher MODEL`: a model learns what another one answers, beside the target."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from test_modalities import reviews
from torch import Tensor, nn
from torch.nn import functional

from maas_magics.api.errors import MaasError, ModelNotFound, OptionError
from maas_magics.core.store.manifest import read_manifest
from maas_magics.core.tasks.binary import Binary
from maas_magics.core.tasks.multiclass import Multiclass
from maas_magics.core.tasks.multilabel import Multilabel
from maas_magics.core.tasks.teaching import of_each_label, of_one_label

rng = np.random.default_rng(3)
N = 240
ROWS = pd.DataFrame({"a": rng.normal(size=N), "b": rng.normal(size=N), "c": rng.choice(["x", "y"], N)})
ROWS["kind"] = np.select([ROWS.a > 0.5, ROWS.b > 0], ["high", "mid"], "low")
ROWS["sign"] = ROWS.a + ROWS.b > 0
ROWS["size"] = 100 + 20 * ROWS.a - 5 * ROWS.b


def weights(lab: Any, name: str) -> dict[str, Tensor]:
    return dict(lab.net(name).state_dict())


def test_probabilities_are_compared_as_hinton_has_it() -> None:
    logits, taught = torch.randn(5, 3), torch.randn(5, 3).softmax(1)
    found = of_one_label(Multiclass(("y",), ("a", "b", "c")), 3.0)(logits, taught)
    soft = (taught.log() / 3).softmax(1)
    expected = 9 * functional.kl_div((logits / 3).log_softmax(1), soft, reduction="batchmean")
    torch.testing.assert_close(found, expected)
    as_logits = of_one_label(Multiclass(("y",), ("a", "b", "c")), 1.0)
    assert float(as_logits(taught.log(), taught)) == pytest.approx(0, abs=1e-6)
    one, both = torch.randn(5, 1), torch.randn(5, 2).softmax(1)
    two = of_one_label(Multiclass(("y",), (0, 1)), 2.0)(torch.cat([torch.zeros(5, 1), one], 1), both)
    torch.testing.assert_close(of_one_label(Binary(("y",), (0, 1)), 2.0)(one, both), two)
    asked = Binary(("y",), (0, 1), link="identity")
    torch.testing.assert_close(of_one_label(asked, 2.0)(one.sigmoid(), both), two)
    each = of_each_label(Multilabel(("p", "q", "r"), (False, True), flat=False), 1.0)(logits, taught)
    torch.testing.assert_close(each, functional.binary_cross_entropy_with_logits(logits, taught))


@pytest.mark.parametrize("target", ["kind", "sign", "size"])
def test_a_student_of_all_the_loss_answers_as_its_teacher_whatever_the_target_says(target: str, lab: Any) -> None:
    columns = ["a", "b", "c", target]
    lab.train(ROWS[columns], target, "big", model="mlp", epochs=30, lr=1e-2)
    wrong = ROWS[columns].assign(**{target: rng.permutation(ROWS[target])})  # what is learnt is the teacher's alone
    asked: dict[str, Any] = {"validation": ROWS[columns], "teacher": "big", "distill_alpha": 1.0}
    made = lab.train(wrong, target, "small", model="linear", epochs=60, lr=3e-2, **asked)
    assert made.info.lineage["teacher"] == "big:1"
    folder = Path(lab.session.backend.place) / "models" / "small" / "1"
    plan = read_manifest(folder).plan
    assert plan["teacher"] == "big:1, 100% of the loss at a temperature of 2"
    assert "big:1 answers the 240 training rows." in lab.messages
    asked = ROWS[["a", "b", "c"]]
    small, big = lab.predict(asked, "small"), lab.predict(asked, "big")
    if target == "size":
        assert np.corrcoef(small["prediction"], big["prediction"])[0, 1] > 0.97
    else:
        assert np.mean(np.asarray(small["prediction"]) == np.asarray(big["prediction"])) > 0.85


def test_columns_of_a_teacher_come_in_any_order_and_it_may_see_more(lab: Any) -> None:
    lab.train(ROWS[["c", "b", "a", "kind"]], "kind", "big", model="mlp", epochs=5)
    made = lab.train(ROWS[["a", "c", "b", "kind"]], "kind", "small", features=("a", "b"), teacher="big", epochs=2)
    assert made.info.lineage["teacher"] == "big:1" and [each.name for each in made.info.signature.inputs] == ["a", "b"]


def test_a_module_learns_from_a_compressed_teacher(lab: Any, exported: None) -> None:
    x, y = ROWS[["a", "b"]].to_numpy("float32"), ROWS["kind"].to_numpy()
    torch.manual_seed(0)
    big = nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3))
    lab.train(x, y, "big", model=big, epochs=5, lr=1e-2, validation=0.2)
    lab.export("big", compress="int8", max_drop=0.9)
    made = lab.train(x, y, "small", model=nn.Linear(2, 3), epochs=2, teacher="big@int8")
    assert made.info.lineage["teacher"] == "big:1@int8" and made.metrics["accuracy"] > 0


def test_texts_have_a_teacher(lab: Any) -> None:
    lab.train(reviews(), "label", "big", model="textcnn", epochs=4)
    made = lab.train(reviews(), "label", "small", model="bow", epochs=4, teacher="big")
    assert made.info.lineage["teacher"] == "big:1" and made.metrics["accuracy"] > 0.6


def test_a_training_with_a_teacher_continues_as_one_that_never_stopped(lab: Any) -> None:
    lab.train(ROWS[["a", "b", "kind"]], "kind", "big", model="mlp", epochs=3)
    asked = {"model": "mlp", "schedule": "constant", "teacher": "big", "batch_size": 32}
    data = ROWS[["a", "b", "kind"]]
    lab.train(data, "kind", "whole", epochs=4, **asked)
    lab.train(data, "kind", "parts", epochs=2, **asked)
    lab.export("big")  # another engine would answer with other last digits
    lab.train(data, "kind", "parts", epochs=4, resume=True, **asked)
    parts = weights(lab, "parts")
    assert all(torch.equal(parts[name], value) for name, value in weights(lab, "whole").items())
    lab.train(ROWS[["a", "b", "kind"]], "kind", "big", model="mlp", epochs=3)
    with pytest.raises(OptionError, match="made with another teacher"):
        lab.train(data, "kind", "parts", epochs=6, resume=True, **asked)


def test_a_teacher_changes_what_is_learnt_and_the_held_out_loss_stays_that_of_the_target(lab: Any) -> None:
    data = ROWS[["a", "b", "kind"]]
    lab.train(data, "kind", "big", model="mlp", epochs=10)
    plain = lab.train(data, "kind", "plain", epochs=3)
    none = lab.train(data, "kind", "none", epochs=3, teacher="big", distill_alpha=0.0)
    some = lab.train(data, "kind", "some", epochs=3, teacher="big", compile=False, accumulate=2)
    for name, value in weights(lab, "plain").items():
        torch.testing.assert_close(weights(lab, "none")[name], value)
    assert none.history["val_loss"] == pytest.approx(plain.history["val_loss"], rel=1e-5)
    assert some.history["val_loss"] != plain.history["val_loss"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"distill_alpha": 1.5}, r"distill alpha is 1\.5"),
        ({"temperature": 0.0}, "The temperature is 0"),
        ({"weights": "b"}, "--teacher does not go with --weights"),
        ({"class_weights": "balanced"}, "--teacher does not go with --class-weights"),
        ({"workers": 2}, "--teacher does not go with --workers"),
        (
            {"target": "size"},
            "The teacher answers multiclass, 3 classes, which is of no use where regression is learnt",
        ),
        ({"target": "sign"}, "The teacher answers the labels high, low, mid; those of the rows are False, True"),
        ({"target": ["kind", "sign"], "model": "tabm"}, "which is of no use where kind: multi"),
        ({"model": "trees"}, "trees learns from all rows at once, in a way of its own, without --teacher"),
        ({"data": ROWS[["b", "c", "kind"]]}, "a"),
    ],
)
def test_what_a_teacher_cannot_do_is_refused_in_two_lines(options: dict[str, Any], said: str, lab: Any) -> None:
    columns = ["a", "b", "c", "kind"]
    lab.train(ROWS[columns], "kind", "big", model="linear", epochs=1)
    asked = {"data": ROWS[[*columns, "sign", "size"]], "target": "kind", "features": ("a", "b", "c")} | options
    if "data" in options:
        asked.pop("features")
    if options.get("weights"):
        asked["features"] = ("a", "c")
    with pytest.raises(MaasError, match=said) as caught:
        lab.train(name="small", teacher="big", **asked)
    assert caught.value.hint and [info.name for info in lab.session.backend.models.list()] == ["big"]


def test_a_teacher_that_is_not_there_and_rows_that_it_cannot_see_are_refused(lab: Any) -> None:
    with pytest.raises(OptionError, match="none was named"):
        lab.train(ROWS[["a", "b", "kind"]], "kind", temperature=3.0)
    with pytest.raises(ModelNotFound, match="big"):
        lab.train(ROWS[["a", "b", "kind"]], "kind", teacher="big")
    lab.train(ROWS[["a", "b", "kind"]], "kind", "big")
    x, y = torch.randn(20, 2), torch.randint(0, 2, (20,))
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=5)
    with pytest.raises(OptionError, match="A teacher is asked all rows before the first step"):
        lab.train(loader, model=nn.Linear(2, 2), teacher="big")


def test_a_teacher_of_another_target_is_doubted(lab: Any) -> None:
    data = ROWS[["a", "b"]]
    for target in (ROWS["kind"], ROWS["size"]):
        lab.train(data.assign(y=target), "y", "big", model="linear", epochs=8)
        other = data.assign(y=target.sample(frac=1, random_state=1).to_numpy())
        for rows, doubted in ((data.assign(y=target), False), (other, True)):
            lab.messages.clear()
            lab.train(rows, "y", "small", model="linear", epochs=1, teacher="big")
            assert any("hardly better than a constant" in text for text in lab.messages) is doubted
