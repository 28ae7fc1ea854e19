"""Keras 3 on its torch backend."""

from __future__ import annotations

import os

from benchmarks.workloads import RATE, Workload

NAME = "Keras 3 on torch"
PACKAGES = ("keras",)


def fit(work: Workload) -> None:
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras
    from keras import layers

    if not work.hidden and work.x.dim() != 4:
        raise NotImplementedError
    if work.hidden:
        inner = [layers.Dense(width, activation="relu") for width in work.hidden]
    else:
        inner = []
        for channels in (16, 32):
            inner += [layers.Conv2D(channels, 3, padding="same", activation="relu"), layers.MaxPooling2D(2)]
        inner.append(layers.Flatten())
    x, xv = (values.numpy() if work.hidden else values.movedim(1, -1).numpy() for values in (work.x, work.xv))
    last = layers.Dense(work.classes or work.y.shape[1])
    net = keras.Sequential([keras.Input(x.shape[1:]), *inner, last])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True) if work.classes else "mse"
    net.compile(keras.optimizers.Adam(RATE), loss, metrics=["accuracy"] if work.classes else ["mse"])
    with keras.device("cpu"):
        net.fit(
            x,
            work.y.numpy(),
            batch_size=work.batch,
            epochs=work.epochs,
            validation_data=(xv, work.yv.numpy()),
            validation_batch_size=512,
            verbose=0,
        )
