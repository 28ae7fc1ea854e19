"""Lightning Fabric around the bare loop."""

from __future__ import annotations

import logging

from benchmarks.workloads import RATE, Workload

NAME = "Lightning Fabric"
PACKAGES = ("lightning",)


def fit(work: Workload) -> None:
    import torch
    from lightning.fabric import Fabric
    from torch.utils.data import DataLoader, TensorDataset

    logging.getLogger("lightning.fabric").setLevel(logging.ERROR)
    fabric = Fabric(accelerator="cpu", devices=1)
    fabric.launch()
    net, loss_of = work.build(), work.loss
    net, optimizer = fabric.setup(net, torch.optim.Adam(net.parameters(), lr=RATE))
    train, held = fabric.setup_dataloaders(
        DataLoader(TensorDataset(work.x, work.y), batch_size=work.batch, shuffle=True),
        DataLoader(TensorDataset(work.xv, work.yv), batch_size=512),
    )
    for _ in range(work.epochs):
        net.train()
        total = 0.0
        for x, y in train:
            optimizer.zero_grad()
            loss = loss_of(net(x), y)
            fabric.backward(loss)
            optimizer.step()
            total += loss.item() * len(x)
        net.eval()
        with torch.no_grad():
            answers = [(net(x), y) for x, y in held]
            sum(float(loss_of(outputs, y)) + float(work.figure(outputs, y)) for outputs, y in answers)
