"""Modules as other people write them: exported where torch can, and where it cannot, with a hint that is true."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from maas_magics.api.errors import ExportError

N, WIDE = 30, 8
HIDDEN = -1e9


class Attention(nn.Module):
    """As in T5: views for the heads, and a bias by relative position."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(WIDE, WIDE, bias=False) for _ in range(4))
        self.near = nn.Embedding(8, 2)

    def bias(self, n: int, m: int) -> Tensor:
        apart = torch.arange(m)[None, :] - torch.arange(n)[:, None]
        far = 2 + (torch.log(apart.abs().clamp(min=1).float() / 2) / math.log(4) * 2).long().clamp(0, 1)
        bucket = torch.where(apart.abs() < 2, apart.abs(), far) + 4 * (apart > 0)
        return self.near(bucket).permute(2, 0, 1).unsqueeze(0)

    def forward(self, x: Tensor, seen: Tensor, mask: Tensor) -> Tensor:
        rows, n = x.shape[:2]
        q, k, v = (
            layer(y).view(rows, -1, 2, WIDE // 2).transpose(1, 2)
            for layer, y in ((self.q, x), (self.k, seen), (self.v, seen))
        )
        scores = torch.matmul(q, k.transpose(3, 2)) + self.bias(n, seen.shape[1]) + mask
        weights = functional.softmax(scores.float(), dim=-1).type_as(scores)
        return self.o(torch.matmul(weights, v).transpose(1, 2).contiguous().view(rows, -1, WIDE))


class EncoderDecoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(10, WIDE), nn.Linear(WIDE, 3)
        self.encode, self.decode, self.cross = Attention(), Attention(), Attention()

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        hidden = (ids == 0)[:, None, None, :].to(x.dtype) * HIDDEN
        x = x + self.encode(x, x, hidden)
        begun = ids.new_zeros(ids.shape)
        begun[..., 1:] = ids[..., :-1].clone()
        y = self.words(begun)
        ahead = torch.full((y.shape[1], y.shape[1]), HIDDEN).triu(1)[None, None]
        y = y + self.decode(y, y, ahead)
        return self.head((y + self.cross(y, x, hidden))[:, -1])


class Windows(nn.Module):
    """As in MaxViT: attention within windows, and over a grid, by views of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(1, WIDE, 3, padding=1), nn.Linear(WIDE, 3)
        self.look = nn.MultiheadAttention(WIDE, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        b, c, h, w = x.shape
        x = x.reshape(b, c, h // 4, 4, w // 4, 4).permute(0, 2, 4, 3, 5, 1).reshape(b * (h // 4) * (w // 4), 16, c)
        x = self.look(x, x, x, need_weights=False)[0]
        x = x.reshape(b, h // 4, w // 4, 4, 4, c).permute(0, 5, 1, 3, 2, 4).reshape(b, c, h, w)
        x = x.view(b, c, 4, h // 4, 4, w // 4).permute(0, 3, 5, 2, 4, 1).flatten(3, 4)
        return self.head(x.mean((1, 2, 3)))


class Experts(nn.Module):
    """Each row goes through two of three layers."""

    def __init__(self, skips: bool) -> None:
        super().__init__()
        self.skips, self.gate, self.head = skips, nn.Linear(4, 3), nn.Linear(WIDE, 3)
        self.experts = nn.ModuleList(nn.Linear(4, WIDE) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        share, which = self.gate(x).softmax(-1).topk(2, dim=-1)
        out = x.new_zeros(len(x), WIDE)
        for i, expert in enumerate(self.experts):
            row, slot = torch.where(which == i)
            if self.skips and not len(row):
                continue
            out.index_add_(0, row, expert(x[row]) * share[row, slot, None])
        return self.head(out)


class Masked(nn.Module):
    """A whole `nn.Transformer`, with masks."""

    def __init__(self) -> None:
        super().__init__()
        self.take, self.head = nn.Linear(4, WIDE), nn.Linear(WIDE, 3)
        self.pair = nn.Transformer(WIDE, 2, 1, 1, 16, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.take(x)
        gone = (x[..., 0] < -1) & (torch.arange(x.shape[1]) > 0)
        ahead = nn.Transformer.generate_square_subsequent_mask(y.shape[1])
        return self.head(
            self.pair(y, y, tgt_mask=ahead, src_key_padding_mask=gone, memory_key_padding_mask=gone)[:, -1]
        )


class Packed(nn.Module):
    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.read, self.head = kind(4, WIDE, batch_first=True), nn.Linear(WIDE, 3)

    def forward(self, x: Tensor) -> Tensor:
        long = (x[..., 0] > -1).sum(1).clamp(min=1)
        rows = nn.utils.rnn.pack_padded_sequence(x, long.cpu(), batch_first=True, enforce_sorted=False)
        out, _ = nn.utils.rnn.pad_packed_sequence(self.read(rows)[0], batch_first=True, total_length=x.shape[1])
        return self.head(out.sum(1))


class Between(nn.Module):
    """Two layers, and between them what is asked."""

    def __init__(self, what: Callable[[Tensor], Tensor], width: int = WIDE) -> None:
        super().__init__()
        self.first, self.last, self.what = nn.Linear(4, WIDE), nn.Linear(width, 3), what

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.what(self.first(x)))


class Steps(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.GRUCell(4, WIDE), nn.Linear(WIDE, 3)

    def forward(self, x: Tensor) -> Tensor:
        state = x.new_zeros(len(x), WIDE)
        for step in range(x.shape[1]):
            state = self.cell(x[:, step], state)
        return self.head(state)


class RowByRow(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.layer(row) for row in x])


def turned(x: Tensor) -> Tensor:
    pairs = torch.view_as_complex(x.reshape(-1, 4, 2))
    return torch.view_as_real(pairs * torch.polar(torch.ones(4), torch.arange(4.0))).flatten(1)


def counted(x: Tensor) -> Tensor:
    return x.new_zeros(len(x), 5).scatter_add(1, (x > 0).long() + torch.arange(WIDE) % 3, x)


def spectral(x: Tensor) -> Tensor:
    return torch.fft.irfft(torch.fft.rfft(x) * torch.exp(1j * torch.arange(5)), n=WIDE)


RNG = np.random.default_rng(5)
ROW, LINE = (RNG.normal(size=(N, *shape)).astype("float32") for shape in ((4,), (6, 4)))
IMAGE, IDS = RNG.normal(size=(N, 1, 8, 8)).astype("float32"), RNG.integers(0, 10, (N, 6))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize(
    ("net", "x", "formats"),
    [
        (EncoderDecoder(), IDS, ("onnx",)),
        (Windows(), IMAGE, ("onnx",)),
        (Masked(), LINE, ("onnx", "pt2")),
        (Experts(skips=False), ROW, ("pt2",)),
        (Packed(nn.LSTM), LINE, ("onnx",)),
        (Packed(nn.GRU), LINE, ("onnx",)),
        (Steps(), LINE, ("pt2",)),
        (Between(turned), ROW, ("onnx",)),
        (Between(counted, 5), ROW, ("pt2",)),
        (Between(spectral), ROW, ("pt2",)),
        (Between(lambda x: torch.cdist(x, torch.ones(3, WIDE)), 3), ROW, ("onnx",)),
        (Between(lambda x: x + torch.from_numpy(np.abs(x.detach().numpy()))), ROW, ("pt2",)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_what_torch_exports_is_exported(lab: Any, unexported: None, net, x, formats):
    lab.train({"x": x}, np.arange(N) % 3, model=net, loss=nn.CrossEntropyLoss())
    rows = torch.from_numpy(x)
    with torch.no_grad():
        expected = lab.net()(rows).softmax(1).numpy()
    for format in formats:
        assert lab.export(format=format).verification.max_abs_diff < 1e-5
        assert np.allclose(lab.predict({"x": x[:5]}, probabilities=True), expected[:5], atol=1e-5)


@pytest.mark.parametrize(
    ("net", "x", "format", "said", "hint"),
    [
        (Experts(skips=True), ROW, "onnx", "data-dependent", "Take data-dependent Python (if, for, .item()) out of its forward: torch.where"),
        (RowByRow(), ROW, "onnx", "it fixes the number of rows", "x.shape[0], no constant, no loop over rows."),
        (RowByRow(), ROW, "pt2", "it fixes the number of rows", "x.shape[0], no constant, no loop over rows."),
        (Between(spectral), ROW, "onnx", "torch has no ONNX for mul of complex numbers", "--format pt2"),
        (Packed(nn.LSTM), LINE, "pt2", "in LSTM; line ", ""),
        (Between(lambda x: torch.cdist(x, torch.ones(3, WIDE)), 3), ROW, "pt2", "some numbers of rows only: 2 <= rows and rows <= 25", ""),
    ],
)  # fmt: skip
def test_what_cannot_be_exported_is_told_with_a_hint_that_is_true_or_none(
    lab: Any, unexported: None, net, x, format, said, hint
):
    lab.train({"x": x}, np.arange(N) % 3, model=net, loss=nn.CrossEntropyLoss())
    with pytest.raises(ExportError) as error:
        lab.export(format=format)
    assert said in error.value.message and "\n" not in error.value.message
    assert hint in error.value.hint and bool(error.value.hint) == bool(hint)


FREE = {"x": {0: "batch"}}


def test_a_trace_that_torch_doubts_is_not_taken():
    """Torch's tracer writes down what a module did once, and warns of what it might have done else."""
    from maas_magics.core.graphs.capture import traced

    x = torch.from_numpy(ROW)
    for doubtful in (RowByRow(), Between(lambda x: x if x.sum() > 0 else -x), Experts(skips=True)):
        assert traced(doubtful.eval(), (x[:3],), ["x"], "y", 20, FREE) is None
    assert traced(Between(torch.tanh).eval(), (x[:3],), ["x"], "y", 20, FREE)
