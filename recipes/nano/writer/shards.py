"""Texts on disk: a file for every so many items, written when all are done, so that a run can stop at any time."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SHARD = 256  # items

Record = dict[str, Any]


@dataclass
class Shards:
    """`DIRECTORY/00012.jsonl` holds what was kept of items 12 · SHARD to 13 · SHARD, its last line the counts."""

    directory: Path
    size: int = SHARD
    open: dict[int, list[Record | None]] = field(default_factory=dict)
    counts: dict[int, Counter[str]] = field(default_factory=dict)

    def missing(self, upto: int) -> Iterator[int]:
        """The numbers, below `upto`, of items in shards that are not there yet."""
        for shard in range(-(-upto // self.size)):
            if not self._path(shard).exists():
                yield from range(shard * self.size, min(upto, (shard + 1) * self.size))

    def add(self, number: int, record: Record | None, counted: Iterable[str], amounts: dict[str, int]) -> bool:
        """What became of an item, None where nothing is kept. Whether that completed a shard, which is then on disk."""
        shard = number // self.size
        counts = self.counts.setdefault(shard, Counter())
        counts.update(counted)
        counts.update(amounts)
        kept = self.open.setdefault(shard, [])
        kept.append(record)
        if len(kept) < self.size:
            return False
        self._write(shard)
        return True

    def _write(self, shard: int) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        kept = sorted((record for record in self.open.pop(shard) if record), key=lambda record: record["item"])
        lines = [json.dumps(record, ensure_ascii=False) for record in [*kept, {"counts": self.counts.pop(shard)}]]
        partial = self._path(shard).with_suffix(".partial")
        partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
        partial.rename(self._path(shard))

    def _path(self, shard: int) -> Path:
        return self.directory / f"{shard:05d}.jsonl"


def read(directory: Path) -> Iterator[Record]:
    """All records kept, in the order of their items; the same text only once."""
    seen: set[str] = set()
    for path in sorted(directory.glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            if "counts" not in record and record["text"].lower() not in seen:
                seen.add(record["text"].lower())
                yield record


def totals(directory: Path) -> Counter[str]:
    """The counts of all shards together."""
    total: Counter[str] = Counter()
    for path in sorted(directory.glob("*.jsonl")):
        total.update(json.loads(path.read_text(encoding="utf-8").splitlines()[-1])["counts"])
    return total
