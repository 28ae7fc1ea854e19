"""Hugging Face Accelerate around the bare loop."""

from __future__ import annotations

from benchmarks.workloads import RATE, Workload

NAME = "Accelerate"
PACKAGES = ("accelerate",)


def fit(work: Workload) -> None:
    import torch
    from accelerate import Accelerator
    from torch.utils.data import DataLoader, TensorDataset

    accelerator = Accelerator(cpu=True)
    net, loss_of = work.build(), work.loss
    net, optimizer, train, held = accelerator.prepare(
        net,
        torch.optim.Adam(net.parameters(), lr=RATE),
        DataLoader(TensorDataset(work.x, work.y), batch_size=work.batch, shuffle=True),
        DataLoader(TensorDataset(work.xv, work.yv), batch_size=512),
    )
    for _ in range(work.epochs):
        net.train()
        total = 0.0
        for x, y in train:
            optimizer.zero_grad()
            loss = loss_of(net(x), y)
            accelerator.backward(loss)
            optimizer.step()
            total += loss.item() * len(x)
        net.eval()
        with torch.no_grad():
            answers = [accelerator.gather_for_metrics((net(x), y)) for x, y in held]
            sum(float(loss_of(outputs, y)) + float(work.figure(outputs, y)) for outputs, y in answers)
