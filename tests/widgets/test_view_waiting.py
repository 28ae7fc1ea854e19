"""`watch` outside notebooks: the terminal's line, interrupts, and what is imported."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from thread_job import ThreadJob, predict, train

from maas_magics.api.backend import Job
from maas_magics.api.events import Event, Started
from maas_magics.widgets import watch
from maas_magics.widgets.follow import Follower

SCRIPT = """from thread_job import train
from maas_magics.widgets import watch
from maas_magics.widgets.follow import Follower
watch(train(epochs=3, steps=80, warn='w'))"""
HEAVY = {"ipywidgets", "anywidget", "matplotlib", "numpy"}


def interrupt_once(*conditions: Callable[[], bool]) -> None:
    """Send SIGINT to this process as soon as each of these is so, one after another, and it waits for a job."""
    main = threading.main_thread().ident

    def waits() -> bool:
        frame = sys._current_frames().get(main or 0)
        while frame is not None:
            if frame.f_code is Follower.wait.__code__:
                return True
            frame = frame.f_back
        return False

    def send() -> None:
        for condition in conditions:
            while not (condition() and waits()):
                time.sleep(0.005)
            os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=send, daemon=True).start()


def test_the_helper_speaks_the_protocol() -> None:
    assert isinstance(train(epochs=1, steps=1), Job)


def test_importing_the_room_is_cheap() -> None:
    code = f"import sys, maas_magics.widgets; print({HEAVY} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


def test_one_final_line_where_no_terminal_is() -> None:
    run = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert run.stdout == ""
    first, second = run.stderr.splitlines()
    assert first == "warning: w"
    assert second.startswith("train penguins: succeeded, 3 epochs · best epoch 3 · val loss")


def test_a_terminal_gets_one_line_that_rewrites_itself() -> None:
    main, side = pty.openpty()
    with subprocess.Popen([sys.executable, "-c", SCRIPT], stderr=side, stdout=subprocess.PIPE) as process:
        os.close(side)
        chunks = []
        while True:
            try:
                chunks.append(os.read(main, 4096))
            except OSError:  # the other end was closed
                break
        out = process.stdout.read() if process.stdout else b""
    text = b"".join(chunks).decode()
    assert out == b""
    assert process.returncode == 0
    assert text.count("\r\x1b[K") >= 2
    assert re.search(r"epoch [123]/3", text)
    assert "━" in text
    assert text.count("\n") == 2
    assert "train penguins: succeeded" in text.splitlines()[-1]


def test_steady_text_in_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MAAS_UI", "static")
    texts = []
    for pause in (0.001, 0.004):
        watch(train(epochs=2, steps=20, pause=pause))
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
    assert "succeeded, 2 epochs" in texts[0]


@pytest.mark.parametrize("ui", ["static", ""])
def test_a_background_job_prints_one_line(
    ui: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MAAS_UI", ui)
    job = train(epochs=1, steps=5)
    watch(job, block=False)
    job.result()
    time.sleep(0.1)
    seen = capsys.readouterr()
    assert seen.out + seen.err == "started train penguins\n"


def test_an_interrupt_stops_gracefully_and_shows_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    job = train(epochs=1000)
    interrupt_once(lambda: len(job.log) > 20)
    with pytest.raises(KeyboardInterrupt):
        watch(job)
    assert job.stops == 1 and job.info.state == "stopped"
    assert "train penguins: stopped" in capsys.readouterr().err


def test_a_second_interrupt_is_hard_and_does_not_wait() -> None:
    job = train(epochs=1000, obey=3)
    interrupt_once(lambda: len(job.log) > 20, lambda: job.stops == 1)
    with pytest.raises(KeyboardInterrupt):
        watch(job)
    assert job.stops == 2 and job.info.state == "running"
    job.stop()


def test_the_views_own_interrupt_after_a_click_is_the_same_wish(monkeypatch: pytest.MonkeyPatch) -> None:
    from maas_magics.widgets import follow, still

    job = train(epochs=1000, obey=1, pause=0.3)
    follower = follow.Follower(job, still.StillView())
    follower.start()
    follower.request_stop()
    interrupt_once(lambda: True)
    follower.wait()
    assert job.stops == 1


def test_a_failed_job_is_only_shown(capsys: pytest.CaptureFixture[str]) -> None:
    watch(train(fail_at=2))
    assert "failed, 1 of 20 epochs" in capsys.readouterr().err


def test_a_job_that_is_over_is_shown_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    job = predict(pause=0)
    job.result()
    watch(job)
    assert "predict penguins: succeeded, 10,000 rows" in capsys.readouterr().err


class Unreachable(ThreadJob):
    """A job whose events stop coming once ``lost`` is set, and which cannot be stopped; whoever tries sets it."""

    def __init__(self) -> None:
        self.lost = threading.Event()
        super().__init__("train far", lambda job: None)

    def events(self, after: int = 0) -> Iterator[Event]:
        yield Started(title="train far", seq=1, time=time.time())
        self.lost.wait(60)
        raise ConnectionError("no route")

    def stop(self) -> None:
        self.lost.set()
        raise ConnectionError("no route")


def test_lost_events_raise_and_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    job = Unreachable()
    job.lost.set()
    with pytest.raises(ConnectionError, match="no route"):
        watch(job)
    assert "could not be followed: no route" in capsys.readouterr().err


def test_an_interrupt_that_cannot_be_passed_on_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    interrupt_once(lambda: True)
    with pytest.raises(KeyboardInterrupt):
        watch(Unreachable())
    assert "could not be stopped: no route" in capsys.readouterr().err


def test_a_broken_view_does_not_take_the_job_down(monkeypatch: pytest.MonkeyPatch) -> None:
    from maas_magics.widgets import terminal

    def broken(self: object, history: object, *, stopping: bool) -> None:
        raise RuntimeError("bad pixel")

    monkeypatch.setattr(terminal.TerminalView, "paint", broken)
    job = train(epochs=2)
    with pytest.warns(RuntimeWarning, match="bad pixel"):
        watch(job)
    assert job.info.state == "succeeded"


def test_an_interrupt_before_the_view_is_there_stops_the_job_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from maas_magics.widgets import terminal

    def early(self: object, follower: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(terminal.TerminalView, "open", early)
    job = train(epochs=1000)
    with pytest.raises(KeyboardInterrupt):
        watch(job)
    assert job.stops == 1
