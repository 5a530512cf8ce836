"""What Prometheus is told; each app has a registry of its own."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Upper ends of the buckets of times."""


class Metrics:
    """The service's numbers. No label holds what a caller sent."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self.requests = Counter(
            "recsys_requests", "Requests by route and status", ["route", "status"], registry=registry
        )
        self.seconds = Histogram(
            "recsys_request_seconds", "Time to answer", ["route"], buckets=SECONDS, registry=registry
        )
        self.lists = Counter(
            "recsys_lists", "Lists given out by where they came from", ["source", "kind"], registry=registry
        )
        self.cache = Counter(
            "recsys_cache", "Kept lists by what became of a look at them", ["result"], registry=registry
        )
        self.computing = Histogram(
            "recsys_list_seconds", "Waiting for and making a list", buckets=SECONDS, registry=registry
        )
        self.events = Counter("recsys_events", "Events by what became of them", ["result"], registry=registry)
        self.loads = Counter("recsys_model_loads", "Models put in place, or not", ["result"], registry=registry)
        self.publication = Gauge("recsys_publication", "Number of the publication that serves", registry=registry)
        self.parameters = Gauge(
            "recsys_online_parameters", "Version of the online parameters in use", registry=registry
        )
        self.published = Gauge("recsys_publication_as_of_seconds", "End of the batch that serves", registry=registry)

    def text(self) -> bytes:
        """All numbers in Prometheus' format."""
        return generate_latest(self.registry)
