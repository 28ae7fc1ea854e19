"""skorch's scikit-learn estimators."""

from __future__ import annotations

from benchmarks.workloads import RATE, Workload

NAME = "skorch"
PACKAGES = ("skorch",)


def fit(work: Workload) -> None:
    import torch
    from skorch import NeuralNet
    from skorch.callbacks import EpochScoring
    from skorch.dataset import Dataset
    from skorch.helper import predefined_split

    def figure(net, data, target=None):
        return float(work.figure(torch.as_tensor(net.predict(data)), work.yv))

    NeuralNet(
        work.build(),
        criterion=type(work.loss),
        optimizer=torch.optim.Adam,
        lr=RATE,
        max_epochs=work.epochs,
        batch_size=work.batch,
        iterator_train__shuffle=True,
        iterator_valid__batch_size=512,
        train_split=predefined_split(Dataset(work.xv, work.yv)),
        callbacks=[("figure", EpochScoring(figure))],
        verbose=0,
    ).fit(work.x, work.y)
