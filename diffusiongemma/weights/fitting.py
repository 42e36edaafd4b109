"""Whether a model fits the memory here, told by the sizes of its files and its configuration, before it is loaded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from diffusiongemma.config import ModelConfig
from diffusiongemma.errors import UserError
from diffusiongemma.host import multiplies_bfloat16
from diffusiongemma.model.model import ENCODE_CHUNK, Model
from diffusiongemma.weights.checkpoint import open_checkpoint
from diffusiongemma.weights.choosing import choose_files
from diffusiongemma.weights.locate import choose_dtype, locate, weight_bytes
from diffusiongemma.weights.schemes import GROUP, KINDS, Scheme

CONTEXT = 4096  # tokens whose keys and values are counted, with the canvas
PROCESS = 400 * 10**6  # Python, torch and what else a process is made of
LARGE = 2 * 10**9  # bytes of weights from which on a server speaks of them
MEMORY = Path("/proc/meminfo")


@dataclass(frozen=True)
class Need:
    """Bytes of a model at work: its weights, the caches of one sequence of `CONTEXT` tokens, and all else."""

    weights: int
    caches: int
    work: int

    @property
    def total(self) -> int:
        return self.weights + self.caches + self.work

    def __str__(self) -> str:
        return (
            f"{gigabytes(self.total)} GB ({gigabytes(self.weights)} of weights, {gigabytes(self.caches)} of caches for "
            f"{CONTEXT:,} tokens, {gigabytes(self.work)} to work with)"
        )


@dataclass(frozen=True)
class Fit:
    """What a model needs, what is free, and what it would need in each scheme; none where it is packed already."""

    need: Need
    free: int
    schemes: Mapping[str, Need]

    @property
    def fits(self) -> bool:
        return self.need.total <= self.free

    def __str__(self) -> str:
        return f"needs {self.need}; {gigabytes(self.free)} GB are free"

    def advice(self, model: str) -> str:
        """What to do where it does not fit."""
        fitting = [name for name, need in self.schemes.items() if need.total <= self.free]
        if fitting:
            best = fitting[0]
            packed = gigabytes(self.schemes[best].total)
            return f"in scheme {best} it takes {packed} GB: diffusiongemma quantize {model} DIR --scheme {best}"
        smallest = min((need.total for need in self.schemes.values()), default=self.need.total)
        packs = f", as no scheme takes less than {gigabytes(smallest)} GB" if self.schemes else ""
        return f"close other programs, or take a smaller file or a larger machine{packs}"


def fit(source: str, device: torch.device) -> Fit:
    """Of an embedded model, a path, or a hub id, of which no weights are fetched. Raises `UserError`."""
    path = _without_fetching(source)
    if path is None:
        return _of_hub(source, device)
    config, _ = open_checkpoint(path)
    full = path.is_dir() and not _is_packed(path)
    entry = 4 if choose_dtype("auto", path, device, packed=not full) == torch.float32 else 2
    weights = text_bytes(config, None, size=4) if full and entry == 4 else weight_bytes(path)
    return _fit(config, weights, device, full, entry)


def _entry_of_packed(device: torch.device) -> int:
    """Bytes of a number in the caches of a packed model, as `choose_dtype` has it."""
    return 4 if device.type == "cpu" and not multiplies_bfloat16() else 2


def _without_fetching(source: str) -> Path | None:
    if re.fullmatch(r"[\w.-]+/[\w.-]+(:[\w.-]+)?", source) and not Path(source.partition(":")[0]).expanduser().exists():
        return None
    return locate(source)


def _of_hub(source: str, device: torch.device) -> Fit:
    from diffusiongemma.config import read_json
    from diffusiongemma.weights.formats.quantised import is_quantised
    from diffusiongemma.weights.hub import peek, sizes

    repo, _, variant = source.partition(":")
    files = sizes(repo)
    choice = choose_files(repo, files, variant or None)
    if choice.gguf:  # of the released shape: what such a file says of it lies behind its vocabulary
        size = sum(files[name] for name in choice.patterns)
        return _fit(ModelConfig(), size, device, False, _entry_of_packed(device))
    raw = read_json(peek(repo, "config.json"))
    weights = sum(size for name, size in files.items() if name.endswith(".safetensors"))
    entry = _entry_of_packed(device) if is_quantised(raw) else 2
    return _fit(ModelConfig.from_hf(raw), weights, device, not is_quantised(raw), entry)


def _is_packed(path: Path) -> bool:
    from diffusiongemma.config import read_json
    from diffusiongemma.weights.formats.quantised import is_quantised

    return is_quantised(read_json(path / "config.json"))


def _fit(config: ModelConfig, weights: int, device: torch.device, full: bool, entry: int) -> Fit:
    """`full`: in no scheme yet. `entry`: bytes of a number in its caches."""
    own, of_packed = (cache_bytes(config, CONTEXT, size) for size in (entry, _entry_of_packed(device)))
    work = work_bytes(config)
    rest = max(0, weights - text_bytes(config, None)) if full else 0  # the vision tower
    packed = {name: Need(text_bytes(config, Scheme(name)) + rest, of_packed, work) for name in PREFERENCE if full}
    return Fit(Need(weights, own, work), free_memory(device), packed)


PREFERENCE = ("int8", "fp8", "mixed", "int4")  # the first that fits: more bits, fewer steps
assert set(PREFERENCE) == set(KINDS)


def text_bytes(config: ModelConfig, scheme: Scheme | None, size: int = 2) -> int:
    """Bytes of the text stack's weights in a scheme, what it leaves as it is in `size` bytes each."""
    with torch.device("meta"):
        model = Model(config, lambda _: torch.nn.Module())
    total = 0
    for name, weight in model.state_dict().items():
        width = weight.shape[-1]
        rows = weight.numel() // width
        kind = scheme.kind_of(name, width) if scheme else None
        if kind is None:
            total += weight.numel() * size
        else:
            total += weight.numel() // 2 + rows * width // GROUP * 2 if kind == "int4" else rows * (width + 4)
    return total


def cache_bytes(config: ModelConfig, tokens: int, size: int = 2) -> int:
    """Keys and values of a sequence, and of its canvas."""
    total = 0
    for layer in range(config.num_layers):
        heads, width = config.heads(layer)
        held = min(tokens, config.sliding_window) if config.is_sliding(layer) else tokens
        total += 2 * heads * width * size * (held + config.canvas_length)
    return total


def work_bytes(config: ModelConfig) -> int:
    """The process, and what a chunk of a prompt passes through, in float32."""
    expert = config.top_k_experts * (3 * config.moe_intermediate_size + config.hidden_size)
    a_token = 6 * config.hidden_size + 3 * config.intermediate_size + expert
    return PROCESS + 4 * ENCODE_CHUNK * a_token


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
