"""Runs as event files of TensorBoard: curves by step, what was requested and chosen as hyperparameters."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from maas_magics.api.errors import OptionError, require
from maas_magics.api.events import EpochEnd, Event, Finished, Resumed, Started, Step
from maas_magics.trackers.run import Start

FOLDER = "runs"
"""Where runs go by default; TensorBoard's own custom."""


def prepare(place: str) -> Start:
    """Function that starts a run in a folder of its own below ``place``.

    Parameters
    ----------
    place : str
        A folder or an fsspec URL; ``runs`` in the working folder if empty.
    """
    require("tensorboard", "TensorBoard", "--track tensorboard", "maas-magics[tensorboard]")
    _without_tensorflow()
    root = Path(place or FOLDER).expanduser()
    if "://" not in place and root.exists() and not root.is_dir():
        raise OptionError(f"{place!r} is a file; a folder was expected.", "--track tensorboard=runs")
    folder = place.rstrip("/") if "://" in place else str(root)
    return lambda run: TensorBoard(f"{folder}/{run.name}", run.params)


def _without_tensorflow() -> None:
    """Let TensorBoard write files by its own code, as it does where TensorFlow is not installed.

    Else it imports TensorFlow at the first file: that takes some ten seconds of the training, and where torch's
    compiler (triton) is imported later, the process dies (seen with TensorFlow 2.21 and torch 2.13 for CUDA). A module
    ``tensorboard.compat.notf`` is how TensorBoard's own builds without TensorFlow say so.
    """
    sys.modules.setdefault("tensorboard.compat.notf", ModuleType("tensorboard.compat.notf"))


class TensorBoard:
    """Writes one run; a callback.

    Tags are ``loss/train``, ``loss/validation``, ``accuracy/validation`` …, ``loss/step`` and ``lr``, all by
    optimizer step; the best epoch's metrics are ``best/loss`` … at that epoch's step.

    Parameters
    ----------
    folder : str
        Folder of the run; made when the run begins.
    params : dict
        What was requested.
    """

    def __init__(self, folder: str, params: dict[str, Any]) -> None:
        self._folder, self._params = folder, params
        self._writer: Any = None
        self._best: EpochEnd | None = None

    def __call__(self, event: Event) -> None:
        """Write an event down."""
        match event:
            case Started():
                self._start(event)
            case Resumed():
                self._restart(event)
            case Step():
                self._scalars(event, event.step, {"loss/step": event.loss})
            case EpochEnd():
                self._best = event if event.best or self._best is None else self._best
                figures = {f"{name}/train": value for name, value in event.train.items()}
                figures |= {f"{name}/validation": value for name, value in event.validation.items()}
                self._scalars(event, event.step, {**figures, "lr": event.lr})
            case Finished():
                self._finish(event)

    def _start(self, event: Started) -> None:
        from tensorboard.plugins.hparams.plugin_data_pb2 import SessionStartInfo
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        if self._writer is not None:  # begun anew in another process
            self._restart(event)
            return
        self._writer = EventFileWriter(self._folder)
        begun = SessionStartInfo(start_time_secs=event.time)
        told = {**event.summary, "parameters": event.parameters, "monitor": event.monitor, **self._params}
        for name, value in told.items():
            if isinstance(value, bool):
                begun.hparams[name].bool_value = value
            elif isinstance(value, (int, float)):
                begun.hparams[name].number_value = value
            else:
                begun.hparams[name].string_value = str(value)
        self._session(event, "SESSION_START_INFO_TAG", session_start_info=begun)

    def _restart(self, event: Event) -> None:
        """What was written of this step and later ones is reported again; readers drop it at this mark."""
        from tensorboard.compat.proto.event_pb2 import SessionLog

        self._write(event, getattr(event, "step", 0) + 1, session_log=SessionLog(status=SessionLog.START))

    def _finish(self, event: Finished) -> None:
        from tensorboard.plugins.hparams.api_pb2 import STATUS_FAILURE, STATUS_SUCCESS
        from tensorboard.plugins.hparams.plugin_data_pb2 import SessionEndInfo

        if self._writer is None:  # it failed before it began
            return
        if self._best is not None:
            figures = self._best.validation or self._best.train
            self._scalars(event, self._best.step, {f"best/{name}": value for name, value in figures.items()})
        status = STATUS_FAILURE if event.state == "failed" else STATUS_SUCCESS
        ended = SessionEndInfo(status=status, end_time_secs=event.time)
        self._session(event, "SESSION_END_INFO_TAG", session_end_info=ended)
        self._writer.close()

    def _scalars(self, event: Event, step: int, figures: dict[str, float]) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=name, simple_value=value) for name, value in figures.items()]
        self._write(event, step, summary=Summary(value=values))

    def _session(self, event: Event, tag: str, **content: Any) -> None:
        """Begin or end of a run for the dashboard of hyperparameters, which reads protocol buffers of its own."""
        from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
        from tensorboard.plugins.hparams import metadata
        from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

        data = HParamsPluginData(version=metadata.PLUGIN_DATA_VERSION, **content).SerializeToString()
        about = SummaryMetadata.PluginData(plugin_name=metadata.PLUGIN_NAME, content=data)
        value = Summary.Value(tag=getattr(metadata, tag), metadata=SummaryMetadata(plugin_data=about))
        self._write(event, 0, summary=Summary(value=[value]))

    def _write(self, event: Event, step: int, **content: Any) -> None:
        from tensorboard.compat.proto import event_pb2

        if self._writer is not None:
            self._writer.add_event(event_pb2.Event(wall_time=event.time, step=step, **content))
