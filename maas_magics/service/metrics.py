"""What a service counts: for Prometheus, and for the statistics of the Open Inference Protocol."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
FIRST = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 1024)

MOST_MODELS = 1_000
"""Models that are counted one by one; a service that answers more counts the rest together."""


class ModelStatistics:
    """Counts of one version of a model; times in nanoseconds."""

    def __init__(self) -> None:
        self.requests = self.rows = self.batches = self.failed = self.last = 0
        self.failed_ns = self.queue_ns = self.infer_ns = 0

    def told(self, ref: str) -> dict[str, Any]:
        """As the protocol's statistics extension reports it."""
        name, _, version = ref.partition(":")
        good = self.requests - self.failed
        none = {"count": 0, "ns": 0}
        return {
            "name": name,
            "version": version,
            "last_inference": self.last,
            "inference_count": self.rows,
            "execution_count": self.batches,
            "inference_stats": {
                "success": {"count": good, "ns": self.queue_ns + self.infer_ns},
                "fail": {"count": self.failed, "ns": self.failed_ns},
                "queue": {"count": good, "ns": self.queue_ns},
                "compute_input": none,
                "compute_infer": {"count": good, "ns": self.infer_ns},
                "compute_output": none,
            },
            "batch_stats": [],
        }


class Histogram:
    """A histogram: how many values fell into each bucket, and their sum."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def buckets(self) -> list[tuple[str, float]]:
        """How many values were at most each bound."""
        bounds = [*(str(float(bound)) for bound in self.bounds), "+Inf"]
        return list(zip(bounds, map(float, accumulate(self.counts)), strict=True))

    def __add__(self, other: Histogram) -> Histogram:
        both = Histogram(self.bounds)
        both.counts = [one + two for one, two in zip(self.counts, other.counts, strict=True)]
        both.sum = self.sum + other.sum
        return both


class ServiceMetrics(Collector):
    """Counters of one service: plain numbers of the event loop's thread, which Prometheus's client reads."""

    def __init__(self) -> None:
        self.models: dict[str, ModelStatistics] = {}
        self.now_waiting: Callable[[], int] = lambda: 0
        self.now_generating: Callable[[], Mapping[str, float]] = dict
        self._generations: dict[str, int] = {}
        self._chunks = self._prompt_tokens = self._answer_tokens = 0
        self._first = Histogram(FIRST)
        self._answered: dict[tuple[str, int], Histogram] = {}
        self._batch = Histogram(ROWS)
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        tally = self._answered.get((route, status))
        if tally is None:
            tally = self._answered[route, status] = Histogram(SECONDS)
        tally.add(seconds)

    def batch(self, ref: str, requests: int, rows: int, waited: float, seconds: float, failed: int) -> None:
        """Count a batch.

        Parameters
        ----------
        ref : str
            ``name:version``, or empty where nothing answered.
        requests, rows : int
        waited : float
            Seconds that the requests waited, added up.
        seconds : float
            Seconds the batch took.
        failed : int
            Requests that failed.
        """
        if not ref:
            return
        found = self.models.get(ref)
        if found is None:
            if len(self.models) >= MOST_MODELS:
                ref = "other:0"
            found = self.models.setdefault(ref, ModelStatistics())
        nanoseconds = int(seconds * 1e9)
        found.requests += requests
        found.rows += rows
        found.batches += 1
        found.failed += failed
        found.failed_ns += nanoseconds if failed else 0
        found.queue_ns += int(waited * 1e9)
        found.infer_ns += nanoseconds * (requests - failed)
        found.last = int(time.time() * 1000)
        self._batch.add(rows)

    def generation(self, outcome: str, chunks: int) -> None:
        """Count an answer in chunks that ended: why, and how many there were."""
        self._generations[outcome] = self._generations.get(outcome, 0) + 1
        self._chunks += chunks

    def tokens(self, prompt: int, answer: int) -> None:
        """Count the tokens of a prompt and of what was written."""
        self._prompt_tokens += prompt
        self._answer_tokens += answer

    def first_chunk(self, seconds: float) -> None:
        """Count how soon an answer's first chunk came."""
        self._first.add(seconds)

    def collect(self) -> Iterator[Metric]:
        """Everything that was counted."""
        requests = CounterMetricFamily("maas_requests", "Requests by route and status.", labels=("route", "status"))
        routes: dict[str, Histogram] = {}
        for (route, status), tally in self._answered.items():
            requests.add_metric((route, str(status)), sum(tally.counts))
            routes[route] = routes[route] + tally if route in routes else tally
        yield requests
        seconds = HistogramMetricFamily("maas_request_seconds", "Seconds from request to answer.", labels=("route",))
        for route, tally in routes.items():
            seconds.add_metric((route,), tally.buckets(), tally.sum)
        yield seconds
        rows = CounterMetricFamily("maas_rows", "Rows answered, by model.", labels=("model",))
        asked = CounterMetricFamily(
            "maas_model_requests", "Requests by model and outcome.", labels=("model", "outcome")
        )
        spent = CounterMetricFamily("maas_model_seconds", "Seconds of requests, by model.", labels=("model", "phase"))
        for ref, found in list(self.models.items()):
            rows.add_metric((ref,), found.rows)
            asked.add_metric((ref, "success"), found.requests - found.failed)
            asked.add_metric((ref, "fail"), found.failed)
            spent.add_metric((ref, "queue"), found.queue_ns / 1e9)
            spent.add_metric((ref, "infer"), found.infer_ns / 1e9)
        yield from (rows, asked, spent)
        batch = HistogramMetricFamily("maas_batch_rows", "Rows of a batch.")
        batch.add_metric((), self._batch.buckets(), self._batch.sum)
        yield batch
        ended = CounterMetricFamily("maas_generations", "Answers in chunks by how they ended.", labels=("outcome",))
        for outcome, count in list(self._generations.items()):
            ended.add_metric((outcome,), count)
        yield ended
        yield CounterMetricFamily("maas_generation_chunks", "Chunks of answers that ended.", self._chunks)
        now = self.now_generating()
        yield GaugeMetricFamily("maas_generation_states", "Answers in chunks in memory.", now.get("states", 0))
        yield GaugeMetricFamily("maas_generation_waiting", "Answers in chunks that wait.", now.get("waiting", 0))
        yield CounterMetricFamily("maas_generation_steps", "Passes over them.", now.get("steps", 0))
        yield CounterMetricFamily("maas_generation_begun", "Answers in chunks that had a turn.", now.get("begun", 0))
        waited = "Seconds that they waited for it, added up."
        yield CounterMetricFamily("maas_generation_wait_seconds", waited, now.get("waited", 0.0))
        tokens = CounterMetricFamily("maas_tokens", "Tokens of texts, of prompts and answers.", labels=("of",))
        tokens.add_metric(("prompt",), self._prompt_tokens)
        tokens.add_metric(("answer",), self._answer_tokens)
        yield tokens
        first = HistogramMetricFamily("maas_first_chunk_seconds", "Seconds from request to an answer's first chunk.")
        first.add_metric((), self._first.buckets(), self._first.sum)
        yield first
        yield GaugeMetricFamily("maas_waiting_requests", "Requests that wait for an answer.", self.now_waiting())

    def told(self) -> bytes:
        """Everything in the text format of Prometheus."""
        return generate_latest(self._registry)
