"""`diffusiongemma doctor`: whether this machine can run the package, and what to do where not."""

from __future__ import annotations

import json
import os
import platform
import re
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any

import typer

from diffusiongemma.cli import options as given
from diffusiongemma.errors import UserError

if TYPE_CHECKING:
    from diffusiongemma.api import DiffusionGemma

PYTHON, TORCH, TRANSFORMERS = (3, 11), (2, 9), ((5, 12), (6,))  # lowest; for transformers also the first too new
STEPS = 8  # denoise steps of the trial
GIB = 2**30
BUILD = "install a C++ compiler and run python -m diffusiongemma.kernels.build"


@dataclass(frozen=True)
class Check:
    """One line of the report. `advice` says what to do where it is not ok; what is not needed is only optional."""

    name: str
    ok: bool
    found: str
    advice: str = ""
    needed: bool = True


def doctor(
    model: given.Model = "nano",
    device: given.Device = "auto",
    devices: given.Devices = None,
    as_json: given.Json = False,
) -> None:
    """Check this installation and try a model.

    Exit code 0 if it can be used, 2 if not.
    """
    checks = [*machine(), *trial(model, device, devices)]
    usable = all(check.ok for check in checks if check.needed)
    if as_json:
        print(json.dumps({"usable": usable, "checks": [asdict(check) for check in checks]}, ensure_ascii=False))
    else:
        _print(checks, usable)
    if not usable:
        raise typer.Exit(2)


# --- checks ---------------------------------------------------------------------------------------------------------


def machine() -> list[Check]:
    """Versions, devices, memory and optional parts. Loads torch, no model."""
    return [
        _python(),
        _package("torch", TORCH),
        _package("transformers", *TRANSFORMERS),
        _guarded("device", _device),
        _memory(),
        _guarded("threads", _threads),
        _guarded("kernels", _kernels),
        _guarded("automata", _automata),
        _video(),
    ]


def trial(name: str, device: str, devices: str | None = None) -> list[Check]:
    """Load a model, if it fits, and denoise one canvas."""
    try:
        from diffusiongemma.weights.fitting import fit
        from diffusiongemma.weights.locate import choose_devices

        found = fit(name, *choose_devices(device, devices))
        if not found.fits:
            return [Check(f"memory for {name}", False, str(found), found.advice(name))]
        from diffusiongemma.api import load

        loaded = load(name, device=device, devices=devices)
        memory = Check(f"memory for {name}", True, str(found))
        taught = [Check(f"what {name} is", True, loaded.about)] if loaded.about else []
        return [memory, _loaded(name, loaded), *taught, *_layouts(loaded), _generation(loaded)]
    except UserError as error:
        return [Check(f"model {name}", False, str(error), "reinstall the package, or give another --model")]
    except Exception as error:  # whatever a broken installation raises
        return [Check(f"model {name}", False, _first_line(error), "reinstall with pip install --force-reinstall")]


def _python() -> Check:
    ok = sys.version_info >= PYTHON
    return Check("Python", ok, platform.python_version(), "install Python 3.11 or later")


def _package(name: str, lowest: tuple[int, ...], too_new: tuple[int, ...] = (99,)) -> Check:
    wanted = f"{name}>={_dotted(lowest)}" + (f",<{_dotted(too_new)}" if too_new != (99,) else "")
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Check(name, False, "not installed", f"pip install '{wanted}'")
    return Check(name, lowest <= numbers(version) < too_new, version, f"pip install '{wanted}'")


def numbers(version: str) -> tuple[int, ...]:
    """(5, 12, 0) of "5.12.0rc1"."""
    return tuple(int(part) for part in re.findall(r"\d+", re.split(r"[^\d.]", version, maxsplit=1)[0]))


def _device() -> Check:
    import torch

    if not torch.cuda.is_available():
        return Check("device", True, f"cpu, {platform.machine()} (no CUDA GPU found)")
    names = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return Check("device", True, ", ".join(f"{gpu.name} with {gpu.total_memory / GIB:.0f} GiB" for gpu in names))


def _memory() -> Check:
    import torch

    from diffusiongemma.weights.fitting import free_memory

    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB
        free = free_memory(torch.device("cpu")) / GIB
    except (ValueError, OSError, AttributeError):  # not told on this system
        return Check("memory", True, "unknown")
    return Check("memory", free > 0.5, f"{free:.1f} of {total:.1f} GiB free", "close other programs", needed=False)


def _threads() -> Check:
    import torch

    cores = os.cpu_count() or 1
    found, load = f"{torch.get_num_threads()} of {cores} cores", _load()
    if load < cores / 2:
        return Check("threads", True, found)
    advice = "steps take longer than they need to: close other programs"
    return Check("threads", False, f"{found}, busy with other programs (load {load:.1f})", advice, needed=False)


def _load() -> float:
    """Processes that computed in the last minute, on average; 0 where the system does not say."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def _kernels() -> Check:
    """Those for weights in few bits, which the package's build compiles where there is a compiler."""
    from diffusiongemma.kernels.native import kernels, kernels_for_rows_alone

    library, found = kernels()
    if kernels_for_rows_alone() is not None:
        found += ", and avx512 for a token at a time"
    advice = f"weights in few bits and steps under constraints are slow: {BUILD}"
    return Check("kernels", library is not None, found, advice, needed=False)


def _automata() -> Check:
    """The library that compiles constraints, without which its plain twin does."""
    from diffusiongemma.kernels import automata

    advice = f"schemas and patterns compile ten times as slowly: {BUILD}"
    missing = "not built, or of another version" if automata.wanted() else "switched off by DIFFUSIONGEMMA_KERNELS"
    return Check(
        "automata", automata.available(), "compiled" if automata.available() else missing, advice, needed=False
    )


def _video() -> Check:
    try:
        version = metadata.version("av")
    except metadata.PackageNotFoundError:
        return Check("video", False, "PyAV is not installed", "pip install 'diffusiongemma[video]'", needed=False)
    return Check("video", True, f"PyAV {version}")


def _loaded(name: str, model: DiffusionGemma) -> Check:
    found = f"{model.parameters / 1e6:,.1f} M parameters in {str(model.network.dtype).removeprefix('torch.')}"
    return Check(f"model {name}", True, f"{found} on {model.placement or model.device}")


def _layouts(model: DiffusionGemma) -> list[Check]:
    """How packed weights are held, and which of them not as they lie in the file."""
    from collections import Counter

    from diffusiongemma.weights.formats.packed_files import layout_of
    from diffusiongemma.weights.packed_kernels import can_multiply
    from diffusiongemma.weights.packed_modules import packed_of, weights_of

    packed = packed_of(model.network)
    if not packed:
        return []
    counts = Counter(layout_of(weight)[0] for weight in packed.values())
    unknown, copied = Counter[str](), Counter[str]()
    for module in model.network.modules():
        kinds = [layout_of(weight)[0] for weight in weights_of(module) if not can_multiply(weight)]
        (unknown if getattr(module, "rounded", None) is None else copied).update(kinds)
    repacked = Counter(model.network.repacked.values())
    found = ", ".join(f"{count} weights in {kind}" for kind, count in counts.most_common())
    if repacked:
        found += "; repacked: " + ", ".join(f"{count} from {kind}" for kind, count in repacked.most_common())
    if copied:
        found += "; multiplied from copies in 8 bits: " + ", ".join(
            f"{n} of {kind}" for kind, n in copied.most_common()
        )
    if unknown:
        slow = ", ".join(f"{count} in {kind}" for kind, count in unknown.most_common())
        return [Check("layouts", False, found, f"unpacked for each product, which is slow: {slow}", needed=False)]
    return [Check("layouts", True, found)]


def _generation(model: DiffusionGemma) -> Check:
    """Denoise one canvas, twice: the first time warms up."""
    from diffusiongemma.diffusion.stop import Never

    width = model.config.canvas_length
    options: dict[str, Any] = dict(steps=STEPS, max_new_tokens=width, stop_rule=Never(), eos_token_ids=(), trace=True)
    prompt = [model.config.bos_token_id]
    model.generate(prompt, **options)
    result = model.generate(prompt, **options)
    milliseconds = sorted(1e3 * step.seconds for step in result.trace)[STEPS // 2]
    return Check("generation", True, f"{milliseconds:.1f} ms a step for a canvas of {width} tokens")


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except Exception as error:  # torch missing or broken
        return Check(name, False, _first_line(error), "reinstall torch")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


# --- the report -----------------------------------------------------------------------------------------------------


def _print(checks: list[Check], usable: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    for check in checks:
        mark = "[green]✓[/]" if check.ok else "[red]✗[/]" if check.needed else "[yellow]✗[/]"
        optional = "" if check.needed else " (optional)"
        table.add_row(mark, check.name + ("" if check.ok else optional), _cell(check))
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
    console.print(table)
    console.print("ready" if usable else "not usable yet: do what the lines marked ✗ say", style="bold")


def _cell(check: Check) -> Any:
    from rich.text import Text

    return Text(check.found if check.ok or not check.advice else f"{check.found} → {check.advice}")
