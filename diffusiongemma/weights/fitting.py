"""Whether a model fits the memory here, told by the sizes of its files and its configuration, before it is loaded."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from diffusiongemma.config import ModelConfig
from diffusiongemma.errors import UserError
from diffusiongemma.host import multiplies_bfloat16
from diffusiongemma.weights.checkpoint import open_checkpoint
from diffusiongemma.weights.choosing import choose_files
from diffusiongemma.weights.locate import choose_dtype, locate
from diffusiongemma.weights.placing import Placement, placed
from diffusiongemma.weights.schemes import KINDS, Scheme
from diffusiongemma.weights.sizes import Sizes, cache_sizes, text_sizes, weight_sizes, work_bytes

CONTEXT = 4096  # tokens whose keys and values are counted, with the canvas
LARGE = 2 * 10**9  # bytes of weights from which on a server speaks of them
MEMORY = Path("/proc/meminfo")


@dataclass(frozen=True)
class Part:
    """What a model takes of one device, and what is free there, in bytes."""

    device: torch.device
    needed: int
    free: int


@dataclass(frozen=True)
class Need:
    """Bytes of a model at work: its weights, the caches of one sequence of `CONTEXT` tokens, and all else; and how
    they lie on the devices."""

    weights: int
    caches: int
    work: int
    parts: tuple[Part, ...]

    @property
    def total(self) -> int:
        return self.weights + self.caches + self.work

    @property
    def fits(self) -> bool:
        return all(part.needed <= part.free for part in self.parts)

    def __str__(self) -> str:
        return (
            f"{gigabytes(self.total)} GB ({gigabytes(self.weights)} of weights, {gigabytes(self.caches)} of caches for "
            f"{CONTEXT:,} tokens, {gigabytes(self.work)} to work with)"
        )


@dataclass(frozen=True)
class Fit:
    """What a model needs, and what it would need in each scheme; none where it is packed already."""

    need: Need
    schemes: Mapping[str, Need]

    @property
    def fits(self) -> bool:
        return self.need.fits

    def __str__(self) -> str:
        if len(self.need.parts) == 1:
            return f"needs {self.need}; {gigabytes(self.need.parts[0].free)} GB are free"
        parts = (
            f"{gigabytes(part.needed)} GB of the {gigabytes(part.free)} GB that are free on {part.device}"
            for part in self.need.parts
        )
        return f"needs {self.need}: {', '.join(parts)}"

    def advice(self, model: str) -> str:
        """What to do where it does not fit."""
        fitting = [name for name, need in self.schemes.items() if need.fits]
        if fitting:
            best = fitting[0]
            packed = gigabytes(self.schemes[best].total)
            return f"in scheme {best} it takes {packed} GB: diffusiongemma quantize {model} DIR --scheme {best}"
        smallest = min((need.total for need in self.schemes.values()), default=self.need.total)
        packs = f", as no scheme takes less than {gigabytes(smallest)} GB" if self.schemes else ""
        return f"close other programs, or take a smaller file or a larger machine{packs}"


def fit(source: str, *devices: torch.device, processes: int = 1) -> Fit:
    """Of an embedded model, a path, or a hub id, of which no weights are fetched; of `processes` that split it,
    what the first needs. Raises `UserError`."""
    path = _without_fetching(source)
    if path is None:
        return _of_hub(source, devices, processes)
    config, tensors = open_checkpoint(path)
    full = path.is_dir() and not _is_packed(path)
    entry = 4 if choose_dtype("auto", path, devices[0], packed=not full) == torch.float32 else 2
    weights = weight_sizes(config, tensors, size=4 if full and entry == 4 else None)
    vision = weight_sizes(config, tensors).total - text_sizes(config, None).total if full else 0
    return _fit(config, weights, devices, full, entry, max(0, vision), processes)


def placement_of(config: ModelConfig, weights: Sizes, devices: Sequence[torch.device], entry: int) -> Placement:
    """Where the layers of a model go, by what is free now; `entry` is the bytes of a number in its caches.

    Raises `InputError` for more devices than layers.
    """
    return _placed(config, weights, cache_sizes(config, CONTEXT, entry), devices, _free(devices))


def _placed(
    config: ModelConfig, weights: Sizes, caches: Sequence[int], devices: Sequence[torch.device], free: Sequence[int]
) -> Placement:
    layers = [size + cache for size, cache in zip(weights.layers, caches, strict=True)]
    return placed(devices, free, layers, weights.outside, work_bytes(config))


def _entry_of_packed(device: torch.device) -> int:
    """Bytes of a number in the caches of a packed model, as `choose_dtype` has it."""
    return 4 if device.type == "cpu" and not multiplies_bfloat16() else 2


def _without_fetching(source: str) -> Path | None:
    if re.fullmatch(r"[\w.-]+/[\w.-]+(:[\w.-]+)?", source) and not Path(source.partition(":")[0]).expanduser().exists():
        return None
    return locate(source)


def _of_hub(source: str, devices: Sequence[torch.device], processes: int) -> Fit:
    from diffusiongemma.config import read_json
    from diffusiongemma.weights.formats.quantised import is_quantised
    from diffusiongemma.weights.hub import peek, sizes

    repo, _, variant = source.partition(":")
    files = sizes(repo)
    choice = choose_files(repo, files, variant or None)
    if choice.gguf:  # of the released shape: what such a file says of it lies behind its vocabulary
        config = ModelConfig()
        stored = text_sizes(config, None).scaled(sum(files[name] for name in choice.patterns))
        return _fit(config, stored, devices, False, _entry_of_packed(devices[0]))
    raw = read_json(peek(repo, "config.json"))
    config = ModelConfig.from_hf(raw)
    total, text = sum(size for name, size in files.items() if name.endswith(".safetensors")), text_sizes(config, None)
    if is_quantised(raw):
        return _fit(config, text.scaled(total), devices, False, _entry_of_packed(devices[0]))
    vision = max(0, total - text.total)
    stored = Sizes(text.layers, total - sum(text.layers))
    return _fit(config, stored, devices, True, 2, vision, processes)


def _is_packed(path: Path) -> bool:
    from diffusiongemma.config import read_json
    from diffusiongemma.weights.formats.quantised import is_quantised

    return is_quantised(read_json(path / "config.json"))


def _fit(
    config: ModelConfig,
    weights: Sizes,
    devices: Sequence[torch.device],
    full: bool,
    entry: int,
    vision: int = 0,
    processes: int = 1,
) -> Fit:
    """`full`: in no scheme yet, when `vision` bytes stay as they are. `entry`: bytes of a number in its caches."""
    free = [
        size // (1 if device.type == "cuda" else processes)
        for device, size in zip(devices, _free(devices), strict=True)
    ]

    def need(weights: Sizes, entry: int) -> Need:
        caches = cache_sizes(config, CONTEXT, entry, processes)
        placement = _placed(config, weights, caches, devices, free)
        work = work_bytes(config)
        layers = [size + cache for size, cache in zip(weights.layers, caches, strict=True)]
        taken = placement.shared_out(layers, weights.outside)
        parts = (Part(*one) for one in zip(devices, (size + work for size in taken), free, strict=True))
        return Need(weights.total, sum(caches), work * len(devices), tuple(parts))

    of_packed = _entry_of_packed(devices[0])
    names = PREFERENCE if full else ()
    schemes = {name: text_sizes(config, Scheme(name)).with_outside(vision) for name in names}
    return Fit(
        need(weights.split(processes), entry),
        {name: need(sizes.split(processes), of_packed) for name, sizes in schemes.items()},
    )


PREFERENCE = ("int8", "fp8", "mixed", "int4")  # the first that fits: more bits, fewer steps
assert set(PREFERENCE) == set(KINDS)


def _free(devices: Sequence[torch.device]) -> list[int]:
    """What is free on each; one that is named twice is shared out."""
    named = Counter(devices)
    return [free_memory(device) // named[device] for device in devices]


def free_memory(device: torch.device) -> int:
    """Bytes that a process can have, what the system would drop for it among them."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB", MEMORY.read_text(), re.MULTILINE)
        if found:
            return int(found[1]) * 1024
    except OSError:
        pass
    import os

    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, AttributeError):
        raise UserError("this system does not say how much memory it has") from None


def gigabytes(size: int) -> str:
    return f"{size / 1e9:,.1f}"
