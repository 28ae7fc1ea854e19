"""Suggestions for a mistyped word, or for the word that another tool has for an option."""

from __future__ import annotations

from collections.abc import Iterable

OTHERS = {
    "accumulate": "accumulation grad-accumulation gradient-accumulation-steps accumulate-grad-batches",
    "background": "bg async no-wait",
    "batch-size": "bs batch batchsize",
    "certificate": "cert ca cacert tls-cert",
    "clip": "grad-clip clip-grad max-norm gradient-clip-val",
    "data": "df table dataset frame x input inputs train-data",
    "device": "gpu gpus cuda accelerator",
    "drop": "exclude ignore remove skip drop-columns",
    "epochs": "epoch num-epochs n-epochs max-epochs iterations max-iter",
    "features": "columns cols feature use only feature-columns",
    "loader-workers": "num-workers",
    "loss": "criterion objective loss-fn",
    "lr": "learning-rate rate eta",
    "metrics": "metric score scoring",
    "model": "arch architecture network net backbone",
    "optimizer": "optim opt optimiser",
    "out": "to output output-file output-dir dest destination file path save",
    "patience": "early-stopping early-stop",
    "precision": "amp dtype mixed-precision",
    "proba": "probs prob probabilities predict-proba",
    "schedule": "scheduler lr-scheduler lr-schedule",
    "seed": "random-state random-seed",
    "set": "params hyperparameters hparams kwargs",
    "sweep": "search tune grid",
    "target": "y label labels targets target-column response",
    "token-file": "token key",
    "tolerance": "tol atol",
    "top": "topk top-k k",
    "track": "tracker logger log-to",
    "trials": "n-trials num-trials",
    "validation": "val valid test split test-size validation-split val-split holdout held-out cv",
    "weights": "sample-weight sample-weights weight row-weights",
    "weight-decay": "wd l2 decay",
    "workers": "processes nproc n-jobs num-processes",
    "yes": "force",
    # subcommands
    "models": "list ls",
    "jobs": "ps queue",
    "logs": "log tail events",
    "stop": "kill cancel abort end",
    "attach": "follow watch view show",
    "rm": "remove delete del",
    "alias": "tag name promote",
    "resume": "continue",
    "status": "info state",
}
"""Words of other tools, and of our functions, by ours of a line."""

MEANT = {other: (ours, *others.split()) for ours, others in OTHERS.items() for other in others.split()}


def meant(word: str, known: Iterable[str]) -> str:
    """Sentence with the option that a mistyped or foreign ``word`` stands for; empty where there is none.

    Parameters
    ----------
    word : str
        What the user typed.
    known : iterable of str
        Options or arguments that there are.
    """
    plain = {choice.lstrip("-").replace("_", "-"): choice for choice in known}
    typed = word.lstrip("-").lower().replace("_", "-")
    if (others := MEANT.get(typed) or (typed, *OTHERS.get(typed, "").split())) and len(others) > 1:
        found = [other for other in others if other in plain][:1]
    else:
        found = [choice for choice in plain if choice.startswith(typed)] if len(typed) > 1 else []
        if not 0 < len(found) <= 3:
            most = 1 if len(typed) <= 5 else 2
            far = {choice: _distance(typed, choice.lower()) for choice in plain}
            least = min(far.values(), default=most + 1)
            found = [choice for choice, steps in far.items() if steps == least <= most and least < len(typed) - 1]
    return f"Did you mean {' or '.join(repr(plain[choice]) for choice in sorted(found))}?" if found else ""


def _distance(a: str, b: str) -> int:
    """Letters left out, put in, changed, or two of them swapped."""
    before, last = list[int](), list(range(len(b) + 1))
    for i, left in enumerate(a, start=1):
        row = [i]
        for j, right in enumerate(b, start=1):
            steps = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (left != right))
            if i > 1 and j > 1 and left == b[j - 2] and right == a[i - 2]:
                steps = min(steps, before[j - 2] + 1)
            row.append(steps)
        before, last = last, row
    return last[-1]
