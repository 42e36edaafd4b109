"""The metrics of all replicas as one."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families

SILENT = 15.0  # seconds without a word after which a replica counts as gone
Key = tuple[str, tuple[tuple[str, str], ...]]  # a sample's name and labels


@dataclass
class Tally:
    """The last word of each replica. What those that are gone have counted stays in the sums; their gauges do not."""

    texts: dict[str, str] = field(default_factory=dict)
    heard: dict[str, float] = field(default_factory=dict)

    def put(self, replica: str, text: str) -> None:
        self.texts[replica], self.heard[replica] = text, time.monotonic()

    @property
    def alive(self) -> list[str]:
        now = time.monotonic()
        return [replica for replica, heard in self.heard.items() if now - heard < SILENT]

    def text(self) -> bytes:
        """In Prometheus' format."""
        registry = CollectorRegistry()
        registry.register(_Summed(self))
        return generate_latest(registry)


class _Summed:
    def __init__(self, tally: Tally):
        self.tally = tally

    def collect(self) -> Iterable[Metric]:
        alive, sums = set(self.tally.alive), dict[str, tuple[Metric, dict[Key, float]]]()
        for replica, text in self.tally.texts.items():
            for family in text_string_to_metric_families(text):
                _, samples = sums.setdefault(family.name, (family, {}))
                for sample in family.samples:
                    key = (sample.name, tuple(sorted(sample.labels.items())))
                    counts = replica in alive or family.type != "gauge"
                    samples[key] = samples.get(key, 0.0) + (sample.value if counts else 0.0)
        for family, samples in sums.values():
            whole = Metric(family.name, family.documentation, family.type)
            for (name, labels), value in samples.items():
                # When a counter of one replica began says nothing of the sum.
                if not name.endswith("_created"):
                    whole.add_sample(name, dict(labels), value)
            yield whole
        replicas = Metric("diffusiongemma_replicas", "Replicas that answer", "gauge")
        replicas.add_sample("diffusiongemma_replicas", {}, len(alive))
        yield replicas
