"""The loop of a PyTorch tutorial."""

from __future__ import annotations

import torch
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.workloads import RATE, Workload

NAME = "bare PyTorch loop"
PACKAGES = ("torch",)


def fit(work: Workload) -> None:
    net, loss_of = work.build(), work.loss
    optimizer = torch.optim.Adam(net.parameters(), lr=RATE)
    train = DataLoader(TensorDataset(work.x, work.y), batch_size=work.batch, shuffle=True)
    held = DataLoader(TensorDataset(work.xv, work.yv), batch_size=512)
    for _ in range(work.epochs):
        net.train()
        total = 0.0
        for x, y in train:
            optimizer.zero_grad()
            loss = loss_of(net(x), y)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(x)
        net.eval()
        with torch.no_grad():
            answers = [(net(x), y) for x, y in held]
            sum(float(loss_of(outputs, y)) for outputs, y in answers)
            sum(float(work.figure(outputs, y)) for outputs, y in answers)
