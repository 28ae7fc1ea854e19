"""The live widget: one anywidget that gets whole snapshots and small binary deltas."""

from __future__ import annotations

import json
import struct
import threading
import uuid
from array import array
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from maas_magics.widgets.compat import answer_where_asked
from maas_magics.widgets.curves import Point
from maas_magics.widgets.drawn import plain
from maas_magics.widgets.history import History
from maas_magics.widgets.words import best_figures, position, rate, shown_settings

STATIC = Path(__file__).with_name("static")

NOTES = 30
"""Messages that the live view shows; the table at the end names every warning."""

_kept: deque[LiveWidget] = deque()
KEPT = 16
"""Widgets that stay answerable after their job, for pages that still show them."""


def header(history: History, *, stopping: bool, kept: bool = True) -> dict[str, Any]:
    """Everything about a history but its curves, ready for JSON: values are text, unknown numbers are None.

    Parameters
    ----------
    history : History
    stopping : bool
        Whether someone requested the end.
    kept : bool
        Whether what stays of a job that is over stands in the notebook already; before, no view is notified of the end.
    """
    started, best = history.started, history.best
    notes = [[message.level, message.text] for message in history.messages][-NOTES:]
    if history.finished and history.finished.error:
        notes.append(["error", history.finished.error])
    return {
        "seq": history.seq,
        "title": history.title,
        "state": _state(history, stopping, kept),
        "facts": shown_settings(history),
        "where": position(history),
        "fraction": history.fraction,
        "epochs": started.epochs if started else 0,
        "per_epoch": started.steps_per_epoch if started else 0,
        "speed": rate(history),
        "seconds": history.seconds,
        "left": history.left,
        "best": {"epoch": best.epoch, "step": best.step, "figures": best_figures(history)} if best else None,
        "metrics": history.metrics,
        "notes": notes,
    }


def _state(history: History, stopping: bool, kept: bool) -> str:
    """One word for a page."""
    if history.final:
        return history.state if kept else "finishing"
    return "stopping" if stopping else history.state


class Packer:
    """Packs what a page has not seen yet of a history.

    A packet is a little-endian u32 with the length of a JSON header, the header padded to four bytes,
    then x and y of every point as float32, curve by curve in the header's order.

    Parameters
    ----------
    **traits : bool or str
        What every header says besides: whether the loss axis is logarithmic, whether a cell waits, ….

    Attributes
    ----------
    kept : bool
        See `header`.
    """

    def __init__(self, **traits: bool | str) -> None:
        self.traits = traits
        self.kept = False
        self._seq = 0
        self._seen: dict[str, float] = {}

    def pack(self, history: History, *, full: bool, stopping: bool = False) -> bytes:
        """Packet of every point, or of those since the last packet that `delta` noted."""
        curves = {name: curve.points for name, curve in history.curves.items()}
        if not full:
            curves = {name: _after(points, self._seen.get(name)) for name, points in curves.items()}
        head = header(history, stopping=stopping, kept=self.kept) | self.traits
        head |= {"full": full, "after": self._seq, "curves": [[name, len(points)] for name, points in curves.items()]}
        drawn = plain(history.drawn, -1 if full else self._seq)
        if drawn is not None:
            head["drawn"] = drawn
        text = json.dumps(head, separators=(",", ":")).encode()
        values = array("f", (value for points in curves.values() for point in points for value in point))
        return struct.pack("<I", len(text)) + text + b" " * (-len(text) % 4) + values.tobytes()

    def note(self, history: History) -> None:
        """Take everything up to now as seen."""
        self._seq = history.seq
        self._seen = {name: curve.points[-1][0] for name, curve in history.curves.items() if len(curve)}


def _after(points: list[Point], x: float | None) -> list[Point]:
    if x is None:
        return points
    first = len(points)
    while first and points[first - 1][0] > x:
        first -= 1
    return points[first:]


class LiveWidget(anywidget.AnyWidget):
    """Shows a history in a page, and carries the page's clicks back.

    Parameters
    ----------
    history : History
    lock : threading.RLock
        Held by the thread that changes ``history``.
    on_stop : callable
        Called for a click on Stop, on any thread; must return at once.
    on_pause : callable
        Called with True for a click on Pause and False for one on Resume, in the same way.
    log : bool
        Logarithmic axis of the loss.
    blocking : bool
        Whether a cell waits for the job, so that an interrupt reaches it.
    again : str
        Line that shows the job again when this kernel is gone; empty if the job goes with it.
    """

    _esm = "\n".join((STATIC / name).read_text() for name in ("chart.js", "live.js"))
    _css = (STATIC / "live.css").read_text()
    snapshot = traitlets.Bytes(b"").tag(sync=True)

    def __init__(
        self,
        history: History,
        lock: threading.RLock,
        *,
        on_stop: Callable[[], None],
        on_pause: Callable[[bool], None],
        log: bool,
        blocking: bool,
        again: str = "",
    ) -> None:
        self._history, self._history_lock, self._on_stop, self._on_pause = history, lock, on_stop, on_pause
        self._stopping, self._paints, self._heard = False, 0, False
        self._still: dict[str, str] = {}
        self._shown = 0
        self.mark = uuid.uuid4().hex[:12]
        self._packer = Packer(log=log, blocking=blocking, again=again, mark=self.mark)
        super().__init__()
        self._packer.traits["id"] = self.model_id
        self.on_msg(self._receive)
        answer_where_asked(self.comm)

    def __repr__(self) -> str:
        return f"<live view of {self._history.title}>"

    def get_state(self, key: Any = None, drop_defaults: bool = False) -> dict[str, Any]:
        """State as of now: a page that was reloaded gets the whole history."""
        state: dict[str, Any] = super().get_state(key, drop_defaults)
        if "snapshot" in state:
            self._shown += 1
            with self._history_lock:
                state["snapshot"] = self._packer.pack(self._history, full=True, stopping=self._stopping)
        return state

    def keep(self, still: dict[str, str], *, final: bool = False) -> None:
        """Take what stands beside this view, for pages whose copy of it no update of the kernel's reaches.

        A page that was opened since the view appeared has lost the tie between an output and its name; it gets the
        view by requesting its state, which the first page need not do.

        Parameters
        ----------
        still : dict of str to str
            MIME bundle.
        final : bool
            Whether this is what stays; pages learn of the end only now.
        """
        self._still = still
        if final:
            self._packer.kept = True
        if self._shown > 1 or final:
            self._send_still()

    def _send_still(self) -> None:
        self.send({"t": "still", "data": self._still})

    def paint(self, *, stopping: bool = False) -> None:
        """Send what is new."""
        with self._history_lock:
            self._stopping = stopping
            self._paints += 1
            # A page loses what is sent before its model is built, and one that cannot answer cannot say so:
            # the first paints and then every eighth are whole until the page has answered.
            full = not self._heard and (self._paints < 10 or self._paints % 8 == 0)
            self._send_packet(full)

    def _send_packet(self, full: bool) -> None:
        packet = self._packer.pack(self._history, full=full, stopping=self._stopping)
        self._packer.note(self._history)
        self.send({"t": "paint"}, buffers=[packet])

    def _receive(self, _: Any, content: dict[str, Any], buffers: Any) -> None:
        match content.get("t"):
            case "stop":
                self.send({"t": "stopping"})
                self._on_stop()
            case "pause" | "resume" as word:
                self.send({"t": "heard"})
                self._on_pause(word == "pause")
            case "ready":
                self.send({"t": "welcome"})
                with self._history_lock:
                    self._heard = True
                    if content.get("seq") != self._history.seq:
                        self._send_packet(full=True)
                if self._still and self._shown > 1:
                    self._send_still()
            case "sync":
                with self._history_lock:
                    self._send_packet(full=True)

    def retire(self) -> None:
        """Stay answerable for a while; the oldest retired widget is closed for good."""
        _kept.append(self)
        while len(_kept) > KEPT:
            _kept.popleft().close()
