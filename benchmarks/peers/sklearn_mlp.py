"""scikit-learn's own MLP, for networks of nothing but dense layers."""

from __future__ import annotations

from benchmarks.workloads import RATE, Workload

NAME = "scikit-learn MLP"
PACKAGES = ("scikit-learn",)


def fit(work: Workload) -> None:
    if not work.hidden:
        raise NotImplementedError
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    kind = MLPClassifier if work.classes else MLPRegressor
    net = kind(
        hidden_layer_sizes=work.hidden, alpha=0.0, learning_rate_init=RATE, batch_size=work.batch, random_state=0
    )
    x, y, xv, yv = (values.numpy() for values in (work.x, work.y, work.xv, work.yv))
    for _ in range(work.epochs):
        if work.classes:
            net.partial_fit(x, y, classes=range(work.classes))
        else:
            net.partial_fit(x, y)
        net.score(xv, yv)
