"""fastai's Learner."""

from __future__ import annotations

from benchmarks.workloads import RATE, Workload

NAME = "fastai"
PACKAGES = ("fastai",)


def fit(work: Workload) -> None:
    import fastai.callback.progress  # noqa: F401  (brings no_bar)
    from fastai.data.core import DataLoaders
    from fastai.data.load import DataLoader
    from fastai.learner import Learner
    from torch.utils.data import TensorDataset

    train = DataLoader(TensorDataset(work.x, work.y), bs=work.batch, shuffle=True)
    held = DataLoader(TensorDataset(work.xv, work.yv), bs=512)
    loaders = DataLoaders(train, held, device="cpu")
    learner = Learner(loaders, work.build(), loss_func=work.loss, metrics=work.figure, lr=RATE)
    with learner.no_bar(), learner.no_logging():
        learner.fit(work.epochs, RATE)
