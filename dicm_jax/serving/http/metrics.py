"""What the service tells Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)


class Metrics:
    """Counters and histograms of one service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        of = self.registry
        self.requests = Counter(
            "dicm_requests", "requests by path and status", ["path", "status"], registry=of
        )
        self.seconds = Histogram(
            "dicm_request_seconds",
            "seconds from the request's head to its answer's end",
            ["path"],
            buckets=_SECONDS,
            registry=of,
        )
        self.candidates = Counter("dicm_candidates", "candidates scored", registry=of)
        self.pending = Gauge(
            "dicm_pending_requests", "requests being answered or waiting", registry=of
        )
        self.refused = Counter(
            "dicm_refused_requests", "requests refused as too many wait", registry=of
        )
        self.items = Gauge("dicm_items", "items that can be ranked", registry=of)
        self.reloads = Counter("dicm_reloads", "servables taken up", ["outcome"], registry=of)
        self.servable = Gauge(
            "dicm_servable", "1 for the servable that answers", ["version"], registry=of
        )

    def serves(self, version: str, items: int) -> None:
        """Notes which servable answers."""
        self.servable.clear()
        self.servable.labels(version).set(1)
        self.items.set(items)

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self.registry)
