"""The log and the end that every job has, by jobs that run here."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from maas_magics.api.backend import Job, JobInfo
from maas_magics.api.errors import JobNotFound, MaasError, Stopped
from maas_magics.api.events import Event, Finished, Message
from maas_magics.job import EventLog, LoggedJob, not_paused, whole_id


class Sum(LoggedJob[int]):
    """Adds numbers up in a thread, and is told when it may begin."""

    def __init__(self, numbers: list[Any], title: str = "add numbers") -> None:
        super().__init__(JobInfo("ab12cd34", title, "m", "running", 1.0))
        self.go = threading.Event()
        threading.Thread(target=self.carry_out, args=(lambda: self.work(numbers),), daemon=True).start()

    def work(self, numbers: list[Any]) -> int:
        self.go.wait(30)
        total = 0
        for number in numbers:
            if isinstance(number, BaseException):
                raise number
            total += number
            self.emit(Message(text=f"{total} so far"))
        return total

    def stop(self) -> None:
        self.go.set()

    pause = resume = stop


def test_late_and_early_followers_see_the_same() -> None:
    job = Sum([1, 2, 3])
    seen: list[Event] = []
    early = threading.Thread(target=lambda: seen.extend(job.events()))
    early.start()
    job.go.set()
    assert job.result(30) == 6 and isinstance(job, Job)
    early.join(30)
    assert seen == list(job.events()) == list(job.events(follow=False))
    assert [event.seq for event in seen] == [1, 2, 3, 4] and seen[2:] == list(job.events(after=2))
    assert all(a.time <= b.time for a, b in zip(seen, seen[1:], strict=False)) and seen[0].time > 1e9
    assert isinstance(seen[-1], Finished) and seen[-1].state == job.info.state == "succeeded" and job.done


def test_the_end_is_waited_for_with_a_limit_and_awaited() -> None:
    job = Sum([1, 2])
    for limit in (0, 0.01, 0.3):
        with pytest.raises(TimeoutError, match=f"The job ab12cd34 is running after {limit:g} s."):
            job.result(limit)
    assert list(job.events(follow=False)) == [] and not job.done
    job.go.set()

    async def wait() -> int:
        return await job

    assert asyncio.run(wait()) == 3 and repr(job) == "<Job ab12cd34 · add numbers · succeeded>"


@pytest.mark.parametrize(
    ("error", "state", "text"),
    [
        (MaasError("No.", "Say yes."), "failed", "No.\nSay yes."),
        (ValueError(), "failed", "ValueError"),
        (Stopped("Enough."), "stopped", "Enough."),
        (KeyboardInterrupt(), "failed", "KeyboardInterrupt"),
    ],
)
def test_what_it_raised_is_raised_as_often_as_one_asks(error: BaseException, state: str, text: str) -> None:
    job = Sum([1, error])
    job.go.set()
    raised = []
    for _ in range(2):
        with pytest.raises(type(error)) as caught:
            job.result(30)
        raised.append(caught.value)
    assert raised[0] is error and str(raised[1]) == str(error)
    assert raised[1] is not error, "whoever asks adds frames to what is raised, and the job is not to hold them"
    last = list(job.events())[-1]
    assert isinstance(last, Finished) and (last.state, last.error) == (state, text) and job.info.state == state


def test_whoever_hears_of_the_end_finds_it_written_down() -> None:
    class Kept(Sum):
        def _keep(self, state: Any) -> None:
            assert not self.done
            kept.append((state, self._log.events[-1]))

    kept: list[Any] = []
    job = Kept([1])
    job.go.set()
    job.result(30)
    assert [(state, type(event)) for state, event in kept] == [("succeeded", Finished)]


def test_a_log_that_is_closed_lets_its_followers_go() -> None:
    log = EventLog([Message(seq=1, text="before")])
    log.add(Message(text="after", time=5.0))
    told = list(log.read(follow=False))
    assert [(event.seq, event.time) for event in told] == [(1, 0.0), (2, 5.0)]
    ended: list[Any] = []
    follower = threading.Thread(target=lambda: ended.append(list(log.read())))
    follower.start()
    log.close()
    follower.join(30)
    assert ended == [told] and list(log.read(after=2)) == []
    log.close(OSError("the line is cut"))
    with pytest.raises(OSError, match="the line is cut"):
        list(log.read())
    assert list(log.read(follow=False)) == told


def test_only_a_training_is_gone_on_with() -> None:
    ended = JobInfo("a", "train m", "m", "succeeded", 0.0)
    assert str(not_paused(ended)) == "The job a has ended: succeeded.\n%train m --resume resumes from it."
    asked = JobInfo("b", "predict m", "m", "succeeded", 0.0)
    assert str(not_paused(asked)) == "The job b (predict m) cannot be paused; trainings can."


def test_an_id_that_several_jobs_begin_with_names_none() -> None:
    with pytest.raises(JobNotFound, match="Several jobs begin with '2637'") as caught:
        whole_id("2637", ["26370000", "2637ffff", "c0ffee00"])
    assert "26370000" in caught.value.hint and "2637ffff" in caught.value.hint
    assert whole_id("2637f", ["26370000", "2637ffff"]) == "2637ffff"
