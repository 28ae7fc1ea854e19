"""What every backend keeps. One more backend is one more parameter of the fixture."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from serving import Service, end_jobs, in_thread, remote, wait_for

from maas_magics.api.backend import Backend, Job, JobInfo
from maas_magics.api.errors import JobNotFound, MaasError, ModelNotFound, OptionError, Stopped
from maas_magics.api.events import EpochEnd, Finished, Paused, Profiled, RateSearch, Resumed, Started, Step
from maas_magics.api.requests import EvaluateRequest, ExportRequest, PredictRequest, TrainRequest
from maas_magics.api.results import Artifact, Metrics, Prediction, TrainedModel
from maas_magics.local.backend import LocalBackend

rng = np.random.default_rng(0)
X = rng.normal(size=(60, 3)).astype(np.float32)
Y = X @ np.array([1.0, -2.0, 0.5], dtype=np.float32)


@contextmanager
def application(store: Path) -> Iterator[Backend]:
    """The service's application in this process, over the backend of a kernel."""
    with in_thread(LocalBackend(str(store))) as url, remote(url) as made:
        yield made


@contextmanager
def process(store: Path) -> Iterator[Backend]:
    """A service as it is really run."""
    service = Service(store.parent / "service")
    try:
        with remote(service.url, service.token) as made:
            yield made
    finally:
        service.stop()


@contextmanager
def kernel(store: Path) -> Iterator[Backend]:
    """What runs in a notebook's kernel."""
    made = LocalBackend(str(store))
    try:
        yield made
    finally:
        end_jobs(made)


KINDS: Any = {"params": [kernel, application, process], "ids": lambda kind: kind.__name__}


@pytest.fixture(**KINDS)
def backend(request: pytest.FixtureRequest, store: Path) -> Iterator[Backend]:
    """An empty backend of each kind."""
    with request.param(store) as made:
        yield made


@pytest.fixture(scope="module", **KINDS)
def used(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Backend, Job[Any]]]:
    """A backend of each kind that many tests ask, and the first training it was asked for: of ``m``, three epochs."""
    torch.set_num_threads(1)
    with request.param(tmp_path_factory.mktemp("used") / "store") as made:
        job = made.submit(quick(epochs=3))
        job.result(600)
        yield made, job


def quick(name: str = "m", **given: Any) -> TrainRequest:
    return TrainRequest(**{"name": name, "data": X, "target": Y, "model": "linear", "epochs": 2} | given)


def endless(name: str = "long") -> TrainRequest:
    """A training that ends when it is stopped."""
    return quick(name, epochs=1_000_000, patience=0)


def begun(job: Job[Any], kind: type[Any] = EpochEnd) -> None:
    """Wait until the job has come so far."""
    next(event for event in job.events() if isinstance(event, kind))


def test_it_is_a_backend(used: tuple[Backend, Job[Any]]) -> None:
    backend, job = used
    assert isinstance(backend.place, str)
    assert isinstance(job, Job) and isinstance(job.info, JobInfo)
    for protocol, thing in ((Backend, backend), (Job, job)):
        for name in dir(protocol):
            if not name.startswith("_"):
                assert hasattr(thing, name), f"{type(thing).__name__} has no {name}"


def test_a_profile_and_a_search_for_a_rate_come_back(backend: Backend) -> None:
    job = backend.submit(quick(profile=True, lr="auto", fast="auto", optimizer="Adam", schedule="constant"))
    model = job.result(600)
    events = {type(event): event for event in job.events()}
    assert events[Profiled].seconds == model.profile and model.profile["forward"] > 0
    assert events[RateSearch].chosen == model.history["lr"][0]


@pytest.mark.parametrize("validation", ["time:when", "group:who:0.3", 0.2])
def test_columns_are_weights_and_decide_what_is_held_out(validation: Any, used: tuple[Backend, Job[Any]]) -> None:
    backend, _ = used
    table = {"a": X[:, 0], "b": X[:, 1], "when": np.arange(60), "who": np.arange(60) % 7, "w": np.arange(60) % 3}
    request = quick("columns", data=table | {"y": Y}, target="y", weights="w", drop=("who",), validation=validation)
    model = backend.submit(request).result(600)
    assert [spec.name for spec in model.info.signature.inputs] == ["a", "b", "when"]
    assert all(np.isfinite(value) for value in model.metrics.values())
    with pytest.raises(MaasError, match="no column 'ww'"):
        backend.submit(quick("columns", data=table | {"y": Y}, target="y", weights="ww")).result(600)


def test_train_export_evaluate_predict(backend: Backend) -> None:
    model = backend.submit(quick()).result(600)
    assert isinstance(model, TrainedModel) and model.ref == "m:1" and backend.models.get("m") == model.info
    artifact = backend.submit(ExportRequest(model="m", format="safetensors")).result(600)
    assert isinstance(artifact, Artifact) and artifact.model == "m:1"
    metrics = backend.submit(EvaluateRequest(model="m", data=X, target=Y)).result(600)
    assert isinstance(metrics, Metrics) and metrics.rows == 60 and metrics["rmse"] > 0
    answers = backend.submit(PredictRequest(model="m", data=X)).result(600)
    assert isinstance(answers, Prediction) and answers.model == "m:1"
    np.testing.assert_allclose(
        answers.columns["prediction"], backend.predict(PredictRequest(model="m", data=X)).columns["prediction"]
    )


def test_a_compressed_variant_answers_under_its_own_name(used: tuple[Backend, Job[Any]]) -> None:
    backend, _ = used
    backend.submit(quick("wide", model="mlp", epochs=2)).result(600)
    small = backend.submit(ExportRequest(model="wide", compress="int8", max_drop="50%")).result(600)
    assert (small.variant, small.format, small.model) == ("int8", "onnx", "wide:1")
    asked = PredictRequest(model="wide@int8", data=X)
    assert backend.submit(asked).result(600).model == backend.predict(asked).model == "wide:1@int8"
    assert backend.submit(EvaluateRequest(model="wide@int8", data=X, target=Y)).result(600).model == "wide:1@int8"
    found = backend.infer("wide@int8", {backend.models.get("wide").signature.inputs[0].name: X})
    plain = backend.infer("wide", {backend.models.get("wide").signature.inputs[0].name: X})
    apart = np.abs(found.outputs["prediction"] - plain.outputs["prediction"])
    assert (found.model, plain.model) == ("wide:1@int8", "wide:1") and 0 < apart.max() < 1
    assert "model.onnx" in backend.exported("wide:1", "int8") and backend.models.get("wide@int8").ref == "wide:1"
    for word in (backend.models.delete, lambda ref: backend.models.alias(ref, "best")):
        with pytest.raises(MaasError, match="is the variant 'int8'"):
            word("wide@int8")
    with pytest.raises(ModelNotFound, match="no export of that name"):
        backend.predict(PredictRequest(model="wide@int4", data=X))


def test_events_are_numbered_in_order_and_end(used: tuple[Backend, Job[Any]]) -> None:
    job = used[1]
    events = list(job.events())
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert isinstance(events[0], Started) and isinstance(events[-1], Finished)
    assert events[-1].state == "succeeded" == job.info.state and events[-1].error is None
    assert [event.epoch for event in events if isinstance(event, EpochEnd)] == [1, 2, 3]
    assert all(a.time <= b.time for a, b in zip(events, events[1:], strict=False))
    assert list(job.events(after=2)) == events[2:] == list(job.events(after=2, follow=False))
    assert list(job.events(follow=False)) == events and list(job.events(after=len(events), follow=False)) == []


def test_there_is_nothing_to_follow_after_the_last_event(used: tuple[Backend, Job[Any]]) -> None:
    backend, job = used
    last = list(job.events())[-1].seq
    assert [event.seq for event in job.events(after=last - 1)] == [last]
    assert list(job.events(after=last)) == list(backend.job(job.info.id).events(after=last)) == []


def test_followers_that_join_late_see_the_same(backend: Backend) -> None:
    job = backend.submit(quick(epochs=40))
    seen: list[list[Any]] = [[], [], []]

    def follow(place: int) -> None:
        time.sleep(0.05 * place)
        seen[place] = list(job.events())

    threads = [threading.Thread(target=follow, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(600)
    assert seen[0] == seen[1] == seen[2] and isinstance(seen[0][-1], Finished)


def test_jobs_run_in_the_order_they_came(backend: Backend) -> None:
    first = backend.submit(endless())
    begun(first)
    rest = [backend.submit(quick(f"m{i}")) for i in range(2)]
    assert [info.state for info in backend.jobs()] == ["queued", "queued", "running"]
    assert [info.title for info in backend.jobs()] == ["train m1", "train m0", "train long"]
    first.stop()
    for job in rest:
        job.result(600)
    times = [list(job.events())[-1].time for job in (first, *rest)]
    assert times == sorted(times)
    assert [info.state for info in backend.jobs()] == ["succeeded", "succeeded", "stopped"]


def test_nothing_else_waits_behind_a_training_or_disturbs_it(backend: Backend) -> None:
    """Random numbers belong to the whole process: a file made meanwhile must not change what is learnt."""
    drawing: Any = {"model": "mlp", "params": {"hidden": (16,), "dropout": 0.5}, "epochs": 20}
    alone = backend.submit(quick("alone", **drawing)).result(600)
    job = backend.submit(quick("together", **drawing))
    begun(job)
    meanwhile: list[Job[Any]] = [
        backend.submit(ExportRequest(model="alone", format="onnx")),
        backend.submit(EvaluateRequest(model="alone", data=X, target=Y)),
    ]
    for other in meanwhile:
        other.result(600)
    assert job.result(600).history == alone.history
    long = backend.submit(endless())
    begun(long)
    assert backend.submit(EvaluateRequest(model="alone", data=X, target=Y)).result(600).rows == 60
    assert long.info.state == "running"
    long.stop()
    long.result(600)


def test_a_result_can_be_waited_for_with_a_limit(backend: Backend) -> None:
    job = backend.submit(endless())  # whoever waited for its end would wait for ever
    begun(job, Started)
    with pytest.raises(TimeoutError, match="is running after 0.1 s"):
        job.result(0.1)
    with pytest.raises(TimeoutError):
        job.result(0)
    begun(job)
    job.stop()
    model = job.result(600)
    assert model.stopped and 1 <= model.best_epoch <= model.epochs and backend.models.get("long").version == 1
    last = list(job.events())[-1]
    assert isinstance(last, Finished) and last.state == "stopped" and last.best_epoch == model.best_epoch
    job.stop()
    assert job.info.state == "stopped"


def test_a_result_can_be_awaited(backend: Backend) -> None:
    job: Any = backend.submit(endless())

    async def tick() -> None:
        """The loop goes on meanwhile: what ends the training runs in it."""
        for _ in range(3):
            await asyncio.sleep(0.001)
        await asyncio.to_thread(begun, job)
        job.stop()

    async def wait() -> TrainedModel:
        clock = asyncio.create_task(tick())
        model: TrainedModel = await job
        await clock
        return model

    model = asyncio.run(wait())
    assert model.ref == "long:1" and model.stopped


def test_stopped_twice_it_drops_the_work_in_hand(backend: Backend) -> None:
    job = backend.submit(
        quick("hard", epochs=1_000_000, data=np.tile(X, (500, 1)), target=np.tile(Y, 500), batch_size=1)
    )
    begun(job, Step)
    job.stop()
    job.stop()
    try:
        # Over a wire the second wish may come when the first has been heard and done.
        assert job.result(600).stopped and not isinstance(backend, LocalBackend)
    except Stopped:
        with pytest.raises(ModelNotFound):
            backend.models.get("hard")


def until(job: Job[Any], *states: str) -> None:
    wait_for(lambda: job.info.state in states)


def paused(backend: Backend, name: str) -> tuple[Job[Any], int]:
    """A training that is paused though it has an end, and how many epochs it has: as many as this machine needs."""
    for epochs in (1_000, 10_000, 100_000):
        job = backend.submit(quick(name, epochs=epochs, patience=0))
        begun(job)
        try:
            job.pause()
            until(job, "paused", "succeeded")
        except MaasError as error:
            assert "has ended: succeeded" in str(error)
        if job.info.state == "paused":
            return job, epochs
    raise AssertionError("every training had ended before it was paused")


def whole(place: Path, **given: Any) -> TrainedModel:
    """A training in this process, from its beginning to its end."""
    return LocalBackend(str(place / "here")).submit(quick(**given)).result(600)


def test_a_paused_training_lets_others_run_and_goes_on_to_the_same_end(backend: Backend, tmp_path: Path) -> None:
    job, epochs = paused(backend, "m")
    assert any(isinstance(event, Paused) for event in job.events(follow=False))
    assert backend.submit(quick("other")).result(600).ref == "other:1"
    job.pause()
    assert next(info for info in backend.jobs() if info.id == job.info.id).state == "paused"
    with pytest.raises(TimeoutError, match="is paused"):
        job.result(0.3)
    backend.job(job.info.id).resume()
    found = job.result(600)
    expected = whole(tmp_path, epochs=epochs, patience=0)
    assert found.history == expected.history and found.best_epoch == expected.best_epoch
    with pytest.raises(MaasError, match="has ended: succeeded"):
        job.pause()
    with pytest.raises(MaasError, match="%train m --resume"):
        job.resume()


def test_a_paused_training_that_is_stopped_keeps_its_best_epoch(backend: Backend) -> None:
    job = backend.submit(endless())
    begun(job)
    job.pause()
    until(job, "paused")
    job.stop()
    assert job.result(600).stopped and backend.models.get("long").version == 1


def test_a_training_that_waits_is_paused_and_resumed_in_its_place(backend: Backend) -> None:
    first, second = backend.submit(endless()), backend.submit(quick("later"))
    begun(first)
    second.pause()
    until(second, "paused")
    first.stop()
    first.result(600)
    time.sleep(0.5)
    assert second.info.state == "paused"
    second.resume()
    assert second.result(600).ref == "later:1"


def test_what_is_no_training_cannot_be_paused(used: tuple[Backend, Job[Any]]) -> None:
    job: Job[Any] = used[0].submit(PredictRequest(model="m", data=X))
    with pytest.raises(MaasError, match="cannot be paused|has ended"):
        job.pause()


def test_a_training_goes_on_for_more_epochs_by_its_name_alone(backend: Backend, tmp_path: Path) -> None:
    constant = {"patience": 0, "schedule": "constant"}
    first = backend.submit(quick("m", epochs=4, **constant))
    before = first.result(600)
    with pytest.raises(MaasError, match="has done its 4 epochs"):
        backend.submit(TrainRequest(name="m", resume=True)).result(600)
    job = backend.submit(TrainRequest(name="m", resume=True, epochs=7))
    found = job.result(600)
    told = {type(event): event for event in job.events()}
    best = next(e for e in first.events() if isinstance(e, EpochEnd) and e.epoch == before.best_epoch)
    assert told[Resumed].best.epoch == best.epoch and told[Resumed].best.validation == best.validation
    assert told[Resumed].best.train == best.train and told[Resumed].best.baseline == best.baseline
    spent = [event.seconds for event in first.events() if isinstance(event, EpochEnd)][-1]
    assert told[Finished].seconds == found.seconds == backend.models.record("m:2").seconds > spent > 0
    expected = whole(tmp_path, epochs=7, **constant)
    assert found.ref == "m:2" and found.epochs == 7 and found.history == expected.history
    stopped = backend.submit(endless("m"))
    begun(stopped)
    stopped.stop()
    done = stopped.result(600).epochs
    again = backend.submit(TrainRequest(name="m", resume=stopped.info.id, epochs=done + 3)).result(600)
    assert again.epochs == done + 3 and not again.stopped


def test_going_on_needs_something_to_go_on_from(backend: Backend) -> None:
    with pytest.raises(MaasError, match="no checkpoint of a training of 'nobody'"):
        backend.submit(TrainRequest(name="nobody", resume=True)).result(600)
    with pytest.raises(MaasError, match="no data to learn from"):
        backend.submit(TrainRequest(name="m")).result(600)
    job = backend.submit(endless())
    begun(job)
    with pytest.raises(MaasError, match="is (running|queued)"):
        backend.submit(TrainRequest(name="long", resume=True)).result(600)
    job.stop()
    job.result(600)
    other = quick("long", data=X + 1, resume=True, epochs=1_000_000)
    with pytest.raises(MaasError, match="another table"):
        backend.submit(other).result(600)


def test_a_removed_model_leaves_nothing_to_go_on_from(backend: Backend) -> None:
    for _ in range(2):
        backend.submit(quick("m", patience=0, schedule="constant")).result(600)
    backend.submit(quick("other", patience=0, schedule="constant")).result(600)
    backend.models.delete("m:1")
    assert backend.submit(TrainRequest(name="m", resume=True, epochs=3)).result(600).ref == "m:3"
    waiting = backend.submit(endless("m"))
    begun(waiting)
    waiting.pause()
    until(waiting, "paused")
    backend.models.delete("m")
    waiting.resume()
    waiting.stop()
    assert waiting.result(600).stopped, "what goes on keeps its state"
    backend.models.delete("m")
    with pytest.raises(MaasError, match="no checkpoint of a training of 'm'"):
        backend.submit(TrainRequest(name="m", resume=True, epochs=9)).result(600)
    assert backend.submit(TrainRequest(name="other", resume=True, epochs=3)).result(600).ref == "other:2"


def test_stopped_before_it_began_it_never_runs(backend: Backend) -> None:
    first, second = backend.submit(endless()), backend.submit(quick())
    begun(first)
    second.stop()
    first.stop()
    with pytest.raises(Stopped, match="before it began"):
        second.result(600)
    assert [type(event) for event in second.events()] == [Finished]
    with pytest.raises(ModelNotFound):
        backend.models.get("m")


@pytest.mark.parametrize(
    ("request_", "kind", "told"),
    [
        (quick("a/b"), OptionError, "'a/b' is not a valid model name"),
        (ExportRequest(model="nobody"), ModelNotFound, "There is no model 'nobody'"),
        (PredictRequest(model="nobody", data=X), ModelNotFound, "There is no model 'nobody'"),
    ],
)
def test_what_a_job_raised_is_raised_where_it_is_waited_for(
    request_: Any, kind: type[Exception], told: str, used: tuple[Backend, Job[Any]]
) -> None:
    backend, _ = used
    job = backend.submit(request_)
    for _ in range(2):
        with pytest.raises(kind, match=told):
            job.result(600)
    last = list(job.events())[-1]
    assert isinstance(last, Finished) and last.state == job.info.state == "failed" and told in str(last.error)
    assert backend.submit(PredictRequest(model="m", data=X)).result(600).model == "m:1"


def refuse(outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    raise RuntimeError("my own mistake")


def test_a_function_of_the_users_runs_in_the_kernel_alone(used: tuple[Backend, Job[Any]]) -> None:
    backend, _ = used
    kind: type[Exception] = RuntimeError if isinstance(backend, LocalBackend) else OptionError
    told = "my own mistake" if isinstance(backend, LocalBackend) else "loss holds a function, which cannot be sent"
    with pytest.raises(kind, match=told):
        backend.submit(quick("mine", loss=refuse)).result(600)
    assert backend.submit(quick("other", epochs=1)).result(600).ref == "other:1"


def asked(backend: Backend) -> Job[Any]:
    """A job that costs little."""
    return backend.submit(EvaluateRequest(model="m", data=X, target=Y))


def test_a_job_is_found_by_the_beginning_of_its_id(used: tuple[Backend, Job[Any]]) -> None:
    backend, first = used
    jobs = [first, asked(backend), asked(backend)]
    for job in jobs:
        job.result(600)
        ids = [info.id for info in backend.jobs()]
        assert backend.job(job.info.id).info == job.info
        unique = next(n for n in range(4, 9) if sum(id.startswith(job.info.id[:n]) for id in ids) == 1)
        assert backend.job(job.info.id[:unique]).info == job.info


@pytest.mark.parametrize("id", ["zzzz", "", "' OR 1=1 --", "z" * 8])
def test_a_job_that_is_not_there_is_told(id: str, used: tuple[Backend, Job[Any]]) -> None:
    with pytest.raises(JobNotFound, match="There is no job") as caught:
        used[0].job(id)
    assert any(info.id in caught.value.hint for info in used[0].jobs())


def test_of_no_jobs_none_is_named(backend: Backend) -> None:
    with pytest.raises(JobNotFound, match="There is no job") as caught:
        backend.job("zzzz")
    assert caught.value.hint == "%maas jobs lists them."


def test_less_than_four_characters_of_an_id_name_no_job(used: tuple[Backend, Job[Any]]) -> None:
    backend, job = used
    for few in range(1, 4):
        with pytest.raises(JobNotFound, match=f"There is no job '{job.info.id[:few]}'"):
            backend.job(job.info.id[:few])


def test_the_short_path_makes_no_job(used: tuple[Backend, Job[Any]]) -> None:
    backend, _ = used
    before = len(backend.jobs())
    backend.predict(PredictRequest(model="m", data=X))
    assert len(backend.jobs()) == before
    with pytest.raises(MaasError):
        backend.predict(PredictRequest(model="m", data=X[:0]))
