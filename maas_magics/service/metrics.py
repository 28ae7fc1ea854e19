"""What a service counts: for Prometheus, and for the statistics of the Open Inference Protocol."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 1024)

MOST_MODELS = 1_000
"""Models that are counted one by one; a service that answers more counts the rest together."""


@dataclass
class ModelStatistics:
    """Counts of one version of a model; times in nanoseconds."""

    requests: int = 0
    rows: int = 0
    batches: int = 0
    failed: int = 0
    failed_ns: int = 0
    queue_ns: int = 0
    infer_ns: int = 0
    last: int = 0

    def told(self, ref: str) -> dict[str, Any]:
        """As the protocol's statistics extension tells it."""
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


@dataclass
class Metrics:
    """Counters of one service."""

    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    models: dict[str, ModelStatistics] = field(default_factory=dict)

    now_waiting: Callable[[], int] = lambda: 0
    """Requests that wait for an answer."""

    def __post_init__(self) -> None:
        to = self.registry
        self._requests = Counter("maas_requests", "Requests by route and status.", ("route", "status"), registry=to)
        self._seconds = Histogram(
            "maas_request_seconds", "Seconds from request to answer.", ("route",), buckets=SECONDS, registry=to
        )
        self._rows = Counter("maas_rows", "Rows asked, by model.", ("model",), registry=to)
        self._batch = Histogram("maas_batch_rows", "Rows of a batch.", buckets=ROWS, registry=to)
        waiting = Gauge("maas_waiting_requests", "Requests that wait for an answer.", registry=to)
        waiting.set_function(lambda: self.now_waiting())
        self._counters: dict[tuple[str, int], Any] = {}
        self._histograms: dict[str, Any] = {}

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        counter = self._counters.get((route, status))
        if counter is None:
            counter = self._counters[route, status] = self._requests.labels(route, str(status))
            self._histograms.setdefault(route, self._seconds.labels(route))
        counter.inc()
        self._histograms[route].observe(seconds)

    def batch(self, ref: str, requests: int, rows: int, waited: float, seconds: float, failed: int) -> None:
        """Count a batch; called in the batcher's thread.

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
        if ref not in self.models and len(self.models) >= MOST_MODELS:
            ref = "other:0"
        found = self.models.get(ref)
        if found is None:
            found = self.models[ref] = ModelStatistics()
        found.requests += requests
        found.rows += rows
        found.batches += 1
        found.failed += failed
        found.failed_ns += int(seconds * 1e9) if failed else 0
        found.queue_ns += int(waited * 1e9)
        found.infer_ns += int(seconds * 1e9) * (requests - failed)
        found.last = int(time.time() * 1000)
        self._batch.observe(rows)

    def told(self) -> bytes:
        """Everything in the text format of Prometheus."""
        for ref, found in list(self.models.items()):
            counter = self._rows.labels(ref)
            counter.inc(found.rows - counter._value.get())
        return generate_latest(self.registry)
