"""All defaults of ``maas.train`` on real tables, this checkout beside another one, in turns."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

from benchmarks.measure import table
from benchmarks.sets import Set

TRAIN = """
import contextlib, json, os, pickle, resource, sys, time, warnings
import numpy as np, pandas as pd, torch
from maas_magics.api.requests import PredictRequest, TrainRequest
from maas_magics.session import current

warnings.simplefilter("ignore")
torch.set_num_threads(1)
answers = sys.stdout

def spent():
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)

def train(data, target, **options):
    return current().run(TrainRequest(name="table", data=data, target=target, **options))

with contextlib.redirect_stdout(sys.stderr):
    train(pd.DataFrame({"x": np.arange(60.0) % 7, "y": np.arange(60.0) % 5}), "y", epochs=1)  # imports
    for line in sys.stdin:
        file, target, seed = json.loads(line)
        with open(file, "rb") as given:
            known, asked = pickle.load(given)
        before = spent()
        made = train(known, target, seed=seed)
        seconds = spent() - before
        told = current().predict(PredictRequest(model="table", data=asked))["prediction"]
        print(json.dumps([seconds, made.epochs, np.asarray(told).tolist()]), file=answers, flush=True)
"""


class Trainer:
    """A process that trains with the package as it is in a checkout, one table after the other."""

    def __init__(self, checkout: Path, home: Path) -> None:
        path = os.pathsep.join([str(checkout), *filter(None, [os.environ.get("PYTHONPATH")])])
        places = {"MAAS_STORE": str(home / "store"), "MAAS_UI": "static", "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", TRAIN],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | places,
            cwd=home,
        )

    def train(self, file: Path, target: str, seed: int) -> tuple[float, int, list[Any]]:
        """CPU seconds of a training and its child processes, its epochs, and answers to the rows it did not see."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps([str(file), target, seed]) + "\n")
        stdin.flush()
        line = stdout.readline()
        if not line:
            raise RuntimeError("the process that trains has ended")
        seconds, epochs, told = json.loads(line)
        return seconds, epochs, told

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.wait()


def compare(sets: Mapping[str, Set], places: Mapping[str, Path], seeds: Sequence[int]) -> None:
    """Print scores and CPU seconds of every table for each checkout; a seed is that of the split and of the training."""
    from sklearn.metrics import accuracy_score, r2_score
    from sklearn.model_selection import train_test_split

    scores: dict[tuple[str, str], list[float]] = defaultdict(list)
    seconds: dict[tuple[str, str], list[float]] = defaultdict(list)
    epochs: dict[tuple[str, str], list[int]] = defaultdict(list)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        trainers = {}
        try:
            for name, checkout in places.items():
                home = Path(folder) / name
                home.mkdir()
                trainers[name] = Trainer(checkout, home)
            for title, one in sets.items():
                frame, file = one.load(), Path(folder) / "rows.pickle"
                score = accuracy_score if one.labels else r2_score
                for turn, seed in enumerate(seeds):
                    strata = frame[one.target] if one.labels else None
                    known, held = train_test_split(frame, test_size=0.25, random_state=seed, stratify=strata)
                    asked, wanted = held.drop(columns=one.target), held[one.target]
                    file.write_bytes(pickle.dumps((known, asked)))
                    for name in list(trainers)[:: -1 if turn % 2 else 1]:
                        spent, ran, told = trainers[name].train(file, one.target, seed)
                        scores[title, name].append(float(score(wanted, told)))
                        seconds[title, name].append(spent)
                        epochs[title, name].append(ran)
        finally:
            for trainer in trainers.values():
                trainer.close()
    rows = [
        [
            title,
            *(" ".join(f"{value:.3f}" for value in scores[title, name]) for name in places),
            *(f"{mean(seconds[title, name]):.1f} ({median(epochs[title, name]):.0f})" for name in places),
        ]
        for title in sets
    ]
    whole = {name: [sum(seconds[title, name][i] for title in sets) for i in range(len(seeds))] for name in places}
    means = {name: [mean(scores[title, name][i] for title in sets) for i in range(len(seeds))] for name in places}
    rows.append(
        [
            "**mean score, sum of seconds**",
            *(" ".join(f"**{value:.4f}**" for value in means[name]) for name in places),
            *(f"**{mean(whole[name]):.1f}**" for name in places),
        ]
    )
    told = ""
    if "there" in places:
        shares = ", ".join(f"{a / b:.3f}" for a, b in zip(whole["here"], whole["there"], strict=True))
        told = f" CPU seconds here / there by seed: {shares}."
    table(
        "Tables: all defaults, this checkout beside another",
        ("table", *(f"score {name}" for name in places), *(f"CPU s {name} (epochs)" for name in places)),
        rows,
        f"Accuracy or R² on the quarter that was held out, of splits and trainings of the seeds "
        f"{', '.join(map(str, seeds))}, in turns, one thread.{told}",
    )
