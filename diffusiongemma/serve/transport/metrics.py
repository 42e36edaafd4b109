"""What Prometheus reads at /metrics."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from diffusiongemma.diffusion.denoise import Canvas
from diffusiongemma.events import CanvasCommitted, CanvasStep, Finished

if TYPE_CHECKING:
    from diffusiongemma.serve.transport.worker import Subscription, Worker

STEPS = (1, 2, 4, 6, 8, 10, 13, 16, 20, 24, 32, 40, 48, 64, 96)
TOKENS = (0.25, 0.5, 1, 2, 4, 6, 8, 12, 16, 24, 32, 64, 128)
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
PREFIX = "diffusiongemma"


class Metrics:
    """One registry per server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        named: dict[str, Any] = dict(namespace=PREFIX, registry=self.registry)
        self.requests = Counter("requests", "Requests by endpoint and status", ["path", "status"], **named)
        self.finished = Counter("generations", "Generations by how they ended", ["outcome", "mode"], **named)
        self.steps = Counter("denoise_steps", "Denoise steps of all canvases: its rate is steps per second", **named)
        self.tokens = Counter("tokens", "Tokens committed", **named)
        self.per_canvas = Histogram("steps_per_canvas", "Denoise steps a canvas took", buckets=STEPS, **named)
        self.per_forward = Histogram("tokens_per_forward", "Tokens per forward pass", buckets=TOKENS, **named)
        self.first = Histogram("time_to_first_text_seconds", "From acceptance to text", buckets=SECONDS, **named)
        self.seconds = Histogram("generation_seconds", "Time a generation ran", buckets=SECONDS, **named)
        self._named = named

    def watch(self, worker: Worker) -> None:
        """Gauges that are read when asked for."""
        prefixes = worker.engine.prefixes
        readings = {
            "running_requests": ("Requests in the batch", lambda: worker.running),
            "active_canvases": (
                "Canvases being denoised",
                lambda: sum(isinstance(g.work(), Canvas) for g in list(worker.engine.running)),
            ),
            "queued_requests": ("Requests waiting", lambda: max(0, worker.accepted - worker.running)),
            "cache_bytes": (
                "Bytes of keys and values of running requests",
                lambda: sum(g.sequence.nbytes() for g in list(worker.engine.running)),
            ),
            "prefix_bytes": ("Bytes of kept prompt beginnings", lambda: prefixes.nbytes if prefixes else 0),
            "resident_bytes": ("Memory of the process", resident_bytes),
        }
        for name, (help_text, reading) in readings.items():
            Gauge(name, help_text, **self._named).set_function(reading)

    def saw(self, event: Any) -> None:
        """Every event that leaves the worker."""
        if isinstance(event, CanvasStep):
            self.steps.inc()
        elif isinstance(event, CanvasCommitted):
            self.tokens.inc(len(event.tokens))
        elif isinstance(event, Finished):
            result = event.result
            self.finished.labels(result.finish_reason, result.mode).inc()
            for steps in result.steps:
                self.per_canvas.observe(steps)
            if result.forward_passes:
                self.per_forward.observe(result.tokens_per_forward)
                self.seconds.observe(result.seconds)
        else:
            if hasattr(event, "error"):
                self.finished.labels("error", "").inc()

    def first_text(self, subscription: Subscription) -> None:
        if not subscription.texted:
            subscription.texted = True
            self.first.observe(time.perf_counter() - subscription.submitted)

    def text(self) -> bytes:
        return generate_latest(self.registry)


def resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
