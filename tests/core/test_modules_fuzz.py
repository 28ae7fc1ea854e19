"""Random small modules × losses × forms of inputs × shapes of targets, held against a plain loop and the exported graph.

``MAAS_FUZZ=2000`` asks so many cases rather than 150; every ``MAAS_FUZZ_EXPORT``-th one (25 by default) is exported too, and
``MAAS_FUZZ_FIRST`` is the first seed.
"""

from __future__ import annotations

import contextlib
import copy
import os
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from maas_magics.api.errors import ExportError, MaasError
from maas_magics.core import publish

CASES, EXPORTED = int(os.environ.get("MAAS_FUZZ", "150")), int(os.environ.get("MAAS_FUZZ_EXPORT", "25"))
FIRST = int(os.environ.get("MAAS_FUZZ_FIRST", "0"))
ROWS, WIDTH = 24, 3


class Made(nn.Module):
    """A layer of some kind for each input, added up, a head, and an end."""

    def __init__(self, kind: str, outputs: int, end: str, dtype: torch.dtype) -> None:
        super().__init__()
        width = 1 if kind == "line" else WIDTH
        self.kind, self.end, self.dtype = kind, end, dtype
        self.table = nn.Embedding(9, 5)
        self.norm = nn.BatchNorm1d(width) if kind == "norm" else nn.Identity()
        self.body, self.head = nn.Linear(width, 5), nn.Linear(5, outputs)
        self.to(dtype)

    def forward(self, x: torch.Tensor, other: Any = None, mask: Any = None) -> torch.Tensor:
        if self.kind == "tokens":
            hidden = self.table(x).mean(dim=1)
        elif self.kind == "masked":
            hidden = self.body(torch.where(~mask, x, 2 * other))
        else:
            hidden = self.body(self.norm(x.reshape(-1, 1) if self.kind == "line" else x))
        made = self.head(torch.tanh(hidden))
        ends = {
            "": lambda o: o,
            "squeeze": lambda o: o.squeeze(),
            "sigmoid": torch.sigmoid,
            "softmax": lambda o: o.softmax(1),
            "log_softmax": lambda o: o.log_softmax(1),
            "axes": lambda o: o.reshape(len(o), -1, 1),
            "complex": lambda o: o.to(torch.complex64),
            "tuple": lambda o: (o, o),
        }
        return ends[self.end](made)


def brier(outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return (outputs - functional.one_hot(target, outputs.shape[1])).square().mean()


def pinball(outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    apart = target.reshape(-1, 1) - outputs
    return torch.maximum(0.1 * apart, -0.9 * apart).mean()


LOSSES: dict[str, Any] = {
    "auto": "auto",
    "MSE": nn.MSELoss(),
    "mse": lambda o, t: functional.mse_loss(o, t),
    "L1": nn.L1Loss(),
    "Poisson": nn.PoissonNLLLoss(),
    "pinball": pinball,
    "BCE": nn.BCELoss(),
    "BCELogits": nn.BCEWithLogitsLoss(),
    "CE": nn.CrossEntropyLoss(),
    "ce": lambda o, t: functional.cross_entropy(o, t),
    "NLL": nn.NLLLoss(),
    "brier": brier,
}
LINKS = {"BCE": "as is", "BCELogits": "sigmoid", "CE": "softmax", "ce": "softmax", "NLL": "exp", "brier": "softmax"}
FITTING = {"BCE": "sigmoid", "NLL": "log_softmax"}


@dataclass
class Case:
    kind: str
    end: str
    loss: str
    target: str
    module: Made
    data: Any
    arrays: tuple[np.ndarray, ...]
    answers: np.ndarray


def draw(seed: int) -> Case:
    """A case; most fit together, some do not."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    kind = str(rng.choice(["plain", "norm", "tokens", "masked", "line", "strided"]))
    loss = str(rng.choice(list(LOSSES)))
    dtype = torch.float64 if rng.random() < 0.15 else torch.float32
    x = rng.normal(size=(ROWS, WIDTH)).astype("float64" if dtype == torch.float64 else "float32")
    if kind == "line":
        x = x[:, 0].copy()
    elif kind == "strided":
        x = np.repeat(x, 2, axis=1)[::-1, ::2]
    elif kind == "tokens":
        x = rng.integers(0, 9 if rng.random() < 0.9 else 12, (ROWS, WIDTH))
    arrays: tuple[np.ndarray, ...] = (x,)
    data: Any = x
    if kind == "masked":
        arrays = (x, rng.normal(size=x.shape).astype(x.dtype), rng.random(x.shape) < 0.5)
        names = ["x", "other", "mask"]
        order = rng.permutation(3)
        data = {names[i]: arrays[i] for i in order}
    labels = loss in LINKS
    two, three = rng.integers(0, 2, ROWS), np.arange(ROWS) % 3
    shapes = {
        "two": two,
        "two column": two[:, None],
        "bool": two == 1,
        "three": three,
        "int32": three.astype("int32"),
        "real": rng.gamma(2, size=ROWS).astype("float32"),
        "real64": rng.gamma(2, size=ROWS),
        "column": rng.gamma(2, size=(ROWS, 1)).astype("float32"),
        "several": rng.gamma(2, size=(ROWS, 2)).astype("float32"),
    }
    fits = (
        ["two", "bool", "two column"]
        if loss.startswith("BCE")
        else ["three", "int32", "two"]
        if labels
        else [*shapes][5:]
    )
    target = str(rng.choice(fits if rng.random() < 0.85 else list(shapes)))
    outputs = 1 if target in ("two", "two column", "bool") and loss not in ("CE", "ce", "NLL", "brier") else 2
    outputs = {"three": 3, "int32": 3, "several": 2, "real": 1, "real64": 1, "column": 1}.get(target, outputs)
    outputs = 3 if loss == "pinball" else outputs + (rng.random() < 0.05)
    end = FITTING.get(loss, "")
    if not end and rng.random() < 0.5:
        end = str(rng.choice(["squeeze", "squeeze", "softmax" if loss == "brier" else "", "axes", "complex", "tuple"]))
    return Case(kind, end, loss, target, Made(kind, int(outputs), end, dtype), data, arrays, shapes[target])


def decoded(case: Case, outputs: torch.Tensor, info: Any) -> np.ndarray:
    """What is documented: outputs through what the loss takes them for."""
    values = outputs.reshape(ROWS, -1).double()
    link = LINKS.get(case.loss, "")
    if case.loss not in LINKS:
        link = {"regression": "", "multiclass": "softmax"}.get(info.task, "sigmoid")
    if info.task == "regression" and case.loss not in LINKS:
        return (values.exp() if case.loss == "Poisson" else values).numpy()
    if case.loss == "brier" and case.end == "softmax" and case.kind != "tokens":
        link = "as is"  # such a network answers probabilities however large its inputs; of whole numbers it is told
    if link == "softmax" and info.task == "binary":
        link = "sigmoid"
    values = {
        "softmax": lambda v: v.softmax(1),
        "sigmoid": torch.sigmoid,
        "exp": torch.exp,
    }.get(link, lambda v: v)(values)
    return (torch.cat([1 - values, values], 1) if info.task == "binary" else values).numpy()


def test_random_modules_answer_what_the_plain_module_answers_or_are_refused_in_two_lines(lab, monkeypatch):
    told: Counter[str] = Counter()
    export_to = publish.export_to
    for seed in range(FIRST, FIRST + CASES):
        case = draw(seed)
        exported = seed % EXPORTED == 0
        monkeypatch.setattr(publish, "export_to", export_to if exported else lambda *args: None)
        before = copy.deepcopy(case.module)
        name = f"case {seed}: {case.kind}, {case.end or 'plain'}, {case.loss}, {case.target}"
        try:
            result = lab.train(
                case.data,
                case.answers,
                name=f"m{seed}",
                model=case.module,
                loss=LOSSES[case.loss],
                validation=0,
                batch_size=ROWS,
                optimizer="SGD",
                lr=0.01,
                schedule="constant",
                epochs=2,
            )
            if exported:
                with contextlib.suppress(ExportError):
                    lab.export(f"m{seed}", format="onnx")
            found = lab.predict(case.data, f"m{seed}", probabilities=result.info.task != "regression")
        except MaasError as error:
            assert error.message and len(str(error).splitlines()) <= 2, name
            told["refused"] += 1
            continue
        except Exception as error:
            raise AssertionError(f"{name} ends in a raw {type(error).__name__}: {error}") from error
        told["trained"] += 1
        net = lab.net(f"m{seed}")
        dtype = next(net.parameters()).dtype
        inputs = tuple(torch.from_numpy(np.ascontiguousarray(array)) for array in case.arrays)
        inputs = tuple(x.to(dtype) if x.is_floating_point() else x for x in inputs)
        with torch.no_grad():
            expected = decoded(case, net(*inputs), result.info)
        assert np.allclose(np.asarray(found).reshape(ROWS, -1), expected, rtol=1e-4, atol=1e-5), name
        engine = lab.session.backend.loader.predictor(f"m{seed}").engine
        if engine is not None:
            told["exported"] += 1
            model = lab.session.backend.loader.model(f"m{seed}", 1)
            table = dict(zip(("x", "other", "mask"), case.arrays, strict=False))
            raw = [np.ascontiguousarray(table[c.name]).astype(c.dtype) for c in model.processor.features]
            raw = [values.reshape(ROWS, *c.row) for values, c in zip(raw, model.processor.features, strict=True)]
            assert np.allclose(model.run(raw), np.asarray(found).reshape(model.run(raw).shape), atol=1e-4), name
        if case.loss in ("MSE", "mse", "L1", "pinball", "CE", "ce", "NLL"):
            told["as the plain loop"] += _as_plain(case, before, result.history["loss"], inputs, name)
    print(dict(told))
    assert told["trained"] > CASES / 3


def _as_plain(case: Case, module: Made, told: list[float], inputs: tuple[torch.Tensor, ...], name: str) -> bool:
    """Whether two steps by hand have the same losses, the target in the shape that the loss is for."""
    loss, losses = LOSSES[case.loss], []
    target = torch.from_numpy(np.ascontiguousarray(case.answers))
    optimizer = torch.optim.SGD(module.train().parameters(), lr=0.01)
    for _ in range(2):
        outputs = module(*inputs)
        if case.loss in ("CE", "ce", "NLL") and not target.is_floating_point():
            answers = target.reshape(-1).long()  # else a probability for each class, as torch takes them
        else:
            answers = target.to(outputs.dtype)
            answers = answers if case.loss == "pinball" else answers.reshape(outputs.shape)
        optimizer.zero_grad()
        value = loss(outputs, answers)
        value.backward()
        optimizer.step()
        losses.append(float(value.detach()))
    assert np.allclose(told, losses, rtol=1e-3), name
    return True
