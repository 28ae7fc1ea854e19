"""Tries the sensible ways to make a version smaller, and says which is best within a budget.

Not an exporter: it registers nothing.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from types import MappingProxyType

import msgspec
import numpy as np

from maas_magics.api.errors import ExportError, MaasError
from maas_magics.api.frontier import Tried
from maas_magics.core.compressors import NetworkCompressor, compressors
from maas_magics.core.exporters.examples import LEAST
from maas_magics.core.exporters.judge import losses
from maas_magics.core.exporters.survey import ask_each, hand_over, time_each
from maas_magics.core.exporters.trial import Trial
from maas_magics.core.model import Model
from maas_magics.core.store.storage import REPORT

WAYS = (
    "fp16",
    "bf16",
    "int8",
    "int8+fp16",
    "int8-static",
    "int8-static+fp16",
    "int4",
    "int4+fp16",
)
"""What is tried beside the plain export, those that build on another after it."""

STORED = ("int8", "fp16")
"""What is tried of smaller networks as well."""

PLAIN = "onnx"

SECONDS = 0.5
"""CPU seconds that the interval of one loss may take."""


def tried(
    plain: Path,
    version: Path,
    model: Model,
    trial: Trial,
    most: float,
    target: str,
    notify: Callable[[str], None],
    check_stop: Callable[[], None],
    place: Path,
    smaller: Mapping[str, Path] = MappingProxyType({}),
) -> tuple[Tried, ...]:
    """What each way comes to, the best one marked.

    Parameters
    ----------
    plain : Path
        Folder of the plain ONNX export.
    version : Path
        Folder of the model's own files.
    model : Model
        The version in torch.
    trial : Trial
        Held-out rows.
    most : float
        What may be lost of the task's metric.
    target : {"size", "latency"}
        What the best one has least of.
    notify : callable
        Gets a sentence for each way.
    check_stop : callable
        Raises where the user wants it to end.
    place : Path
        Folder to work in.
    smaller : mapping of str to Path
        Folders of exports of smaller networks, which are tried too, by the names of their ways.

    Raises
    ------
    ExportError
        If not even the plain export can be asked.
    """
    found: dict[str, Tried] = {}
    with tempfile.TemporaryDirectory(dir=place) as made:
        work = Path(made)
        shutil.copytree(plain, work / PLAIN, ignore=shutil.ignore_patterns(REPORT))
        names = [PLAIN, *smaller]
        for name, folder in smaller.items():
            shutil.copytree(folder, work / name, ignore=shutil.ignore_patterns(REPORT))
        ways = (*WAYS, *(f"{name}+{each}" for name in smaller for each in STORED))
        for way in ways:
            check_stop()
            why = _made(way, work, trial)
            if why:
                found[way] = Tried(name=way, why=why)
            else:
                names.append(way)
        hand_over(work, trial.hosted)
        before = trial.answers()
        for number, (name, answers) in enumerate(ask_each(version, work, names), 1):
            check_stop()
            size = sum(each.stat().st_size for each in (work / name).iterdir() if each.name != "answers.npy")
            if answers is None or answers.shape != before.shape:
                found[name] = Tried(name=name, why="the file cannot be used")
                continue
            lost = losses(model, before, answers, trial.target, SECONDS)
            found[name] = Tried(
                name=name,
                bytes=size,
                metric=next(iter(lost)),
                score=next(iter(lost.values())).after,
                lost=lost,
                fits=all(each.lost <= most for each in lost.values()),
            )
            notify(f"{number} of {len(names)}: {found[name]}")
        if not found[PLAIN].bytes:
            raise ExportError("The plain ONNX export cannot be used.", "%export it with --format pt2.")
        check_stop()
        measured = time_each(version, work, [name for name in names if found[name].bytes])
    for name, times in measured.items():
        low, high = np.percentile(times, (25, 75))
        found[name] = msgspec.structs.replace(found[name], latency=median(times), spread=(float(low), float(high)))
    best = _best(found, target)
    order = (PLAIN, *smaller, *ways)
    return tuple(msgspec.structs.replace(found[name], best=name == best) for name in order if name in found)


def _made(way: str, work: Path, trial: Trial) -> str:
    """Make the file of a way, from that of a shorter one where there is one; why it has none, else empty."""
    base, _, last = way.rpartition("+")
    source = work / (base or PLAIN)
    if not source.is_dir():
        return f"{base} has nothing to compress"
    folder = work / way
    with tempfile.TemporaryDirectory(dir=work) as made:
        try:
            some = [values[: max(LEAST, 256)] for values in trial.hosted]
            tool = compressors.get(last)
            assert not isinstance(tool, NetworkCompressor)
            tool.compress(source / "model.onnx", Path(made) / "model.onnx", some)
        except MaasError as error:
            return error.message.rstrip(".")
        except Exception as error:  # tools of ONNX Runtime raise whatever they meet
            return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
        shutil.copytree(source, folder)
        for each in Path(made).iterdir():
            shutil.move(each, folder / each.name)
    return ""


def _best(found: dict[str, Tried], target: str) -> str:
    """The name of what has least of the target within the budget; the plain export where nothing is."""
    within = [each for each in found.values() if each.fits and each.bytes]
    if not within:
        return PLAIN
    if target == "latency" and all(each.latency for each in within):
        return min(within, key=lambda each: (each.latency, each.bytes)).name
    return min(within, key=lambda each: (each.bytes, each.latency)).name
