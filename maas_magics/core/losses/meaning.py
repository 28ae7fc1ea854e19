"""What a network's outputs are taken for, in words, and evidence against it."""

from __future__ import annotations

from torch import Tensor

from maas_magics.core.losses.own import LossTrial
from maas_magics.core.tasks.base import Link, Task

WORDS: dict[Link, str] = {"identity": "probabilities", "exp": "log-probabilities"}

OTHERWISE = "--outputs logits, probabilities or values says otherwise"


def told(answers: Task, trial: LossTrial) -> str:
    """What outputs are taken for, why, and what becomes of them."""
    if answers.numeric and answers.decoding == "identity":
        return f"The network's outputs are taken for values, and answered as they are; {OTHERWISE}."
    kind = WORDS.get(answers.decoding, "logits")
    if answers.numeric and answers.decoding == "exp":
        kind = "logarithms"
    why = ", as the loss takes them" if trial.watch is None or trial.watch.link == answers.decoding else ""
    done = {
        "identity": "answered as they are",
        "exp": "answered as their exp",
        "softmax": "answered through a softmax",
        "sigmoid": "answered through a sigmoid",
    }[answers.decoding]
    return f"The network's outputs are taken for {kind}{why}, and {done}; {OTHERWISE}."


def contradiction(answers: Task, outputs: Tensor) -> str:
    """Evidence of some rows against what outputs are taken for; empty where there is none.

    Parameters
    ----------
    answers : Task
        The fitted target.
    outputs : Tensor, shape (n, …)
        The network's outputs for some rows.
    """
    if answers.parts:
        each = zip(answers.names, answers.parts, answers.outputs_of(outputs), strict=True)
        found = [(name, contradiction(head, part)) for name, head, part in each]
        return " ".join(f"{name}: {text}" for name, text in found if text)
    if answers.numeric or answers.axes or len(outputs) < 8:
        return ""
    values = outputs.detach().reshape(len(outputs), -1).double()
    inside = ((values >= 0) & (values <= 1)).all(dim=1)
    sums = values.exp().sum(dim=1) if answers.decoding == "exp" else values.sum(dim=1)
    whole = (sums - 1).abs() < 1e-3
    n = len(values)
    match answers.decoding:
        case "softmax":
            if bool((inside & whole).all()):
                return (
                    f"The outputs of all {n} rows looked at lie within 0…1 and sum to 1, as probabilities do, but they "
                    "are taken for logits. If the network ends in a softmax: --outputs probabilities, or leave it out."
                )
        case "sigmoid":
            if bool(inside.all()):
                return (
                    f"The outputs of all {n} rows looked at lie within 0…1, as probabilities do, but they are taken "
                    "for logits. If the network ends in a sigmoid: --outputs probabilities, or leave it out."
                )
        case "identity":
            bad = ~inside | (~whole if answers.exclusive else False)
            if bool(bad.any()):
                return (
                    f"The outputs of {int(bad.sum())} of {n} rows looked at are not probabilities"
                    f"{' that sum to 1' if answers.exclusive else ' within 0…1'}, but they are taken for "
                    "such. If they are logits: --outputs logits."
                )
        case "exp":
            bad = ~whole if answers.exclusive else (values > 1e-3).any(dim=1)
            if bool(bad.any()):
                return (
                    f"The outputs of {int(bad.sum())} of {n} rows looked at are not log-probabilities, but they are "
                    "taken for such. End the network with nn.LogSoftmax(dim=1), or use nn.CrossEntropyLoss()."
                )
    return ""
