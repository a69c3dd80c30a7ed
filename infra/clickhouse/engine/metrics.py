"""What the engine process tells Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest


class EngineMetrics:
    """One registry per application, so that two of them in one process (tests) do not meet."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self.queries = Counter(
            "ratchet_engine_queries_total",
            "Statements, by account (writer, analyst) and kind (read, insert, other)",
            ["account", "kind"],
            registry=self._registry,
        )
        self.errors = Counter(
            "ratchet_engine_query_errors_total",
            "Statements that failed or were refused, by ClickHouse's error code",
            ["code"],
            registry=self._registry,
        )
        self.seconds = Histogram(
            "ratchet_engine_query_seconds",
            "From the whole request to the end of its answer",
            ["kind"],
            buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
            registry=self._registry,
        )
        self.running = Gauge(
            "ratchet_engine_queries_running", "Statements that run now", ["account"], registry=self._registry
        )

    def render(self) -> bytes:
        """The text exposition format."""
        return generate_latest(self._registry)
