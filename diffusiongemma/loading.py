"""A checkpoint's network in memory: on which devices, in how many bits, split over how many processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from diffusiongemma.errors import InputError
from diffusiongemma.host import keep_freed_memory
from diffusiongemma.model.model import Model
from diffusiongemma.options import LOADING, check_arguments
from diffusiongemma.parallel.following import follow
from diffusiongemma.parallel.group import Processes, join, own_device
from diffusiongemma.parallel.orders import lead
from diffusiongemma.parallel.sharding import check_divisible, shard
from diffusiongemma.weights.adapter import load_adapter
from diffusiongemma.weights.checkpoint import Where, as_it_lies, built
from diffusiongemma.weights.locate import choose_devices, choose_dtype
from diffusiongemma.weights.lora import merge
from diffusiongemma.weights.opening import Checkpoint
from diffusiongemma.weights.packed_modules import multiply_in_8_bits, to_device
from diffusiongemma.weights.placing import Placement
from diffusiongemma.weights.schemes import Scheme


@dataclass(frozen=True)
class Loading:
    """The arguments of `load` that say how weights are held. Raises `InputError` for a word that is none of theirs."""

    device: str | torch.device = "auto"
    devices: str | Sequence[str | torch.device] | None = None
    dtype: str | torch.dtype = "auto"
    quantize: str | None = None
    activations: str = "auto"
    kv: str = "full"
    tensor_parallel: int = 1

    def __post_init__(self) -> None:
        for name in ("activations", "kv"):
            if (value := getattr(self, name)) not in LOADING[name]:
                raise InputError(f"give {', '.join(LOADING[name])}", option=name, got=value)
        check_arguments(tensor_parallel=self.tensor_parallel)

    @property
    def split(self) -> bool:
        """Whether each layer is split over processes."""
        return self.tensor_parallel != 1

    def places(self) -> list[torch.device]:
        """The devices for the weights. Raises `InputError` for one that is not here or lacks what is asked."""
        own = self.split and self.device in ("auto", "cuda")
        places = choose_devices(own_device() if own else self.device, self.devices)
        if self.activations == "int8" and places[0].type != "cpu":
            message = f"there are no such products on {places[0].type}: give auto"
            raise InputError(message, option="activations", got=self.activations)
        return places


def network_of(checkpoint: Checkpoint, adapter: Path | None, how: Loading) -> tuple[Model, Placement | None]:
    """The network, and which layer is where if they are on several devices. Raises `CheckpointError` or `InputError`.

    With tensor parallelism all but the first process work for that one, and do not come back from here.
    """
    if how.split:
        _check_splittable(checkpoint, adapter, how)
    processes = join(how.tensor_parallel) if how.split else None
    places = how.places()
    scheme = None if how.quantize is None else Scheme(how.quantize)
    packed = scheme is not None or checkpoint.packed
    dtype = choose_dtype(how.dtype, checkpoint.path, places[0], packed=packed)
    placement = None if len(places) == 1 else checkpoint.placement(places, dtype, scheme)
    where: Where = placement or (_whole_on_the_cpu(places[0]) if how.split else lambda name: places[0])
    model = built(checkpoint.config, checkpoint.tensors, dtype, where, scheme.packed if scheme else as_it_lies)
    model.eight_bit_cache = how.kv == "int8"
    if processes is not None:
        _split(model, processes, adapter)
    if places[0].type == "cpu" and how.activations != "full":
        multiply_in_8_bits(model, required=how.activations == "int8")
    if model.backbone.read_by_kernel:  # a step is then short enough to see what its memory costs
        keep_freed_memory()
    if processes is not None:
        _work_together(model, processes, places[0])
    elif adapter is not None:
        load_adapter(model, adapter)
    return model, placement


def _check_splittable(checkpoint: Checkpoint, adapter: Path | None, how: Loading) -> None:
    """Raises `InputError` for what tensor parallelism does not go with."""
    number = how.tensor_parallel
    if how.devices is not None:
        raise InputError("leave `devices` out, or this", option="tensor_parallel", got=number)
    if adapter is not None and (how.quantize is not None or checkpoint.packed):
        message = "adapters are merged first, which weights in few bits cannot be: leave `adapter` out, or this"
        raise InputError(message, option="tensor_parallel", got=number)
    check_divisible(checkpoint.config, number)


def _whole_on_the_cpu(own: torch.device) -> Where:
    """Layers go to their devices once they are split."""
    return lambda name: own if name == "vision" else torch.device("cpu")


def _split(model: Model, processes: Processes, adapter: Path | None) -> None:
    if adapter is not None:
        load_adapter(model, adapter)
        merge(model)
    shard(model, processes)


def _work_together(model: Model, processes: Processes, device: torch.device) -> None:
    """On `device`, each with its share. Of all but the first process this is the rest of its life."""
    if processes.rank == 0:
        to_device(model, device)
        return lead(model, processes)
    for part in (model.backbone.layers, model.backbone.norm):
        to_device(part, device)
    follow(model, processes)
    raise SystemExit(0)
