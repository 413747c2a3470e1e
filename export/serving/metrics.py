"""Figures of a server, in the text format of Prometheus."""

from __future__ import annotations

import prometheus_client as prometheus

_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 1024)


class Metrics:
    """Counts requests, batches and versions, in a registry of its own.

    Example:
        >>> metrics = Metrics()
        >>> metrics.request("digits", "serving_default", "v1", 200, 0.0012)
        >>> b"zoo_requests_total" in metrics.text()
        True
    """

    content_type = prometheus.CONTENT_TYPE_PLAIN_0_0_4

    def __init__(self) -> None:
        self._registry = prometheus.CollectorRegistry()
        prometheus.ProcessCollector(registry=self._registry)
        names = ("model", "signature", "protocol")
        self._requests = prometheus.Counter(
            "zoo_requests", "Requests by HTTP status.", [*names, "status"], registry=self._registry
        )
        self._seconds = prometheus.Histogram(
            "zoo_request_seconds",
            "Time until the response, in seconds.",
            names,
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._rows = prometheus.Histogram(
            "zoo_batch_rows", "Examples that were computed together.", ["model"], buckets=_ROWS, registry=self._registry
        )
        self._jobs = prometheus.Counter(
            "zoo_batched_requests", "Requests that were computed.", ["model"], registry=self._registry
        )
        self._versions = prometheus.Gauge(
            "zoo_version_ready",
            "1 for a version that is served, else 0.",
            ["model", "version"],
            registry=self._registry,
        )

    def request(self, model: str, signature: str, protocol: str, status: int, seconds: float) -> None:
        """Counts a request; `model`, `signature` and `protocol` are empty for one that was refused before they were known."""
        self._requests.labels(model, signature, protocol, str(status)).inc()
        self._seconds.labels(model, signature, protocol).observe(seconds)

    def batch(self, model: str, requests: int, rows: int) -> None:
        """Counts a batch."""
        self._jobs.labels(model).inc(requests)
        self._rows.labels(model).observe(rows)

    def version(self, model: str, number: int, ready: bool) -> None:
        """Records whether a version is served."""
        self._versions.labels(model, str(number)).set(int(ready))

    def text(self) -> bytes:
        """Returns all figures."""
        return prometheus.generate_latest(self._registry)
