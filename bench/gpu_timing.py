"""Time on a device: of whole calls, of the parts of a denoise step, and of the kernels in it."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch

from diffusiongemma.diffusion import readout
from diffusiongemma.model.attention import Denoise
from diffusiongemma.model.model import Model

Work = Callable[[], Any]


class Clock:
    """Marks in time: CUDA events on a GPU, the processor's clock elsewhere."""

    def __init__(self, device: torch.device):
        self.cuda = device.type == "cuda"

    def mark(self) -> Any:
        if not self.cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def milliseconds(self, start: Any, end: Any) -> float:
        if not self.cuda:
            return float(end - start) * 1e3
        end.synchronize()
        return float(start.elapsed_time(end))

    def median(self, work: Work, rounds: int) -> float:
        """Milliseconds of `work`, after up to two runs that warm up."""
        for _ in range(min(2, rounds)):
            work()
        times = []
        for _ in range(rounds):
            start = self.mark()
            work()
            times.append(self.milliseconds(start, self.mark()))
        return statistics.median(times)


class Parts:
    """Time spent in named calls; that of a call inside another one is the inner one's alone."""

    def __init__(self, clock: Clock):
        self.clock = clock
        self.calls: list[tuple[str, int | None, Any, Any]] = []  # part, the call around it, start, end
        self.open: list[int] = []

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            index, around = len(self.calls), self.open[-1] if self.open else None
            self.calls.append((part, around, self.clock.mark(), None))
            self.open.append(index)
            out = function(*args, **kwargs)
            self.open.pop()
            self.calls[index] = (*self.calls[index][:3], self.clock.mark())
            return out

        return call

    def take(self) -> dict[str, float]:
        """Milliseconds by part since the last time."""
        spans = [self.clock.milliseconds(start, end) for _, _, start, end in self.calls]
        times: dict[str, float] = defaultdict(float)
        for (part, around, *_), span in zip(self.calls, spans, strict=True):
            times[part] += span
            if around is not None:
                times[self.calls[around][0]] -= span
        self.calls = []
        return dict(times)


@contextmanager
def taken_apart(model: Model, parts: Parts) -> Iterator[None]:
    """Every part of a step of `model` is timed in `parts`."""
    backbone = model.backbone
    places: list[tuple[str, Any, str]] = [
        ("norms and residuals", model, "denoise_rows"),
        ("self-conditioning", backbone.self_conditioning, "forward"),
        ("attention", Denoise, "attend"),
        ("head", backbone, "logits"),
        ("soft embedding", backbone, "soft_embedding"),
        ("sampling", readout, "read"),
    ]
    for layer in backbone.layers:
        places += [
            ("attention projections", layer, "before"),
            ("attention projections", layer.self_attn.o_proj, "forward"),
            ("experts", layer.experts, "forward"),
            ("dense MLP", layer.mlp, "forward"),
            ("router", layer.router, "forward"),
        ]
    with ExitStack() as stack:
        for part, owner, name in places:
            stack.enter_context(patch.object(owner, name, parts.timed(part, getattr(owner, name))))
        yield


def split(model: Model, work: Work, rounds: int, clock: Clock) -> dict[str, float]:
    """Median milliseconds of each part of the step `work`; together with the marks it takes a little longer."""
    parts = Parts(clock)
    step = parts.timed("bookkeeping", work)
    with taken_apart(model, parts):
        step()
        parts.take()
        times = []
        for _ in range(rounds):
            step()
            times.append(parts.take())
    return {part: statistics.median(t[part] for t in times) for part in times[0]}


def on_device(work: Work) -> dict[str, Any]:
    """How long the GPU computes in `work`, in how many launches, and the kernels that take the longest."""
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        work()
        torch.cuda.synchronize()
    by_name: dict[str, list[float]] = defaultdict(list)
    for event in seen.events():
        if event.device_type == DeviceType.CUDA:
            by_name[event.name[:100]].append(event.time_range.elapsed_us() / 1e3)
    longest = sorted(by_name.items(), key=lambda item: -sum(item[1]))[:24]
    return {
        "busy_ms": sum(map(sum, by_name.values())),
        "launches": sum(map(len, by_name.values())),
        "longest": [{"kernel": name, "ms": sum(ms), "launches": len(ms)} for name, ms in longest],
    }


def gigabytes(peak: bool = False) -> float | None:
    """Allocated on the GPU now, or at most since the last `peak`."""
    if not torch.cuda.is_initialized():
        return None
    held = torch.cuda.max_memory_allocated() if peak else torch.cuda.memory_allocated()
    if peak:
        torch.cuda.reset_peak_memory_stats()
    return held / 1e9
