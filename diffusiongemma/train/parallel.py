"""Several processes training one model: its weights sharded over them by PyTorch's FSDP2, or small ones whole in each.

Each process works off its share of every batch; the sum of their gradients is the gradient of the whole batch. Start
them with torchrun, or on one machine's cores with `launch.run_processes`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from diffusiongemma.model.model import Model
from diffusiongemma.train.objective import Batch, Draw, Objective, Totals, loss, mean_canvas_loss


class LossModule(nn.Module):
    """The objective as one module call, around which FSDP2 gathers and frees the weights."""

    def __init__(self, model: Model, canvas_loss: Callable[..., Any] = mean_canvas_loss):
        super().__init__()
        self.model, self.canvas_loss, self.sharded = model, canvas_loss, False

    def forward(
        self, batch: Batch, draw: Draw, objective: Objective, totals: Totals
    ) -> tuple[Tensor, Tensor, Tensor]:  # total, denoise and encoder loss, each []
        result = loss(self.model, batch, draw, objective, totals, self.canvas_loss)
        # FSDP2 gathers a layer's weights for the backward pass when a gradient reaches the layer's output. Without a
        # loss on the encoder none reaches its last, whose keys and values need theirs all the same.
        anchor = 0.0 * result.hidden.sum() if self.sharded else 0.0
        return result.total + anchor, result.denoise, result.encoder


@contextmanager
def process_group() -> Iterator[None]:
    """Together with the other processes, if torchrun started this one."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield
        return
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if cuda else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def shard(module: LossModule) -> None:
    """Split the weights over the processes: each layer is gathered only while it runs."""
    if world_size() == 1:
        return
    from torch.distributed.fsdp import fully_shard

    module.sharded = True

    ignored = {p for name, p in module.model.named_parameters() if name.startswith("vision.")}  # not part of the loss
    for layer in module.model.backbone.layers:
        fully_shard(layer)
    fully_shard(module, ignored_params=ignored)


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Where every process holds all weights: the sum of their gradients, in all of them."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def reshard(module: LossModule) -> None:
    """Free the weights that a forward pass without a backward pass left gathered."""
    if not module.sharded:
        return
    from torch.distributed.fsdp import FSDPModule

    for part in module.modules():
        if isinstance(part, FSDPModule):
            part.reshard()


def local_shard(tensor: Tensor) -> Tensor:
    """This process's shard of a tensor, or the tensor where it is not sharded."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def full_tensor(tensor: Tensor) -> Tensor:
    """All of a tensor, on the CPU. Every process must ask for the same ones in the same order."""
    tensor = tensor.detach()
    return (tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor).cpu()


def sharded_like(tensor: Tensor, pattern: Tensor) -> Tensor:
    """A whole tensor placed and split as `pattern` is."""
    tensor = tensor.to(pattern.device)
    if not hasattr(pattern, "device_mesh") or tensor.shape != pattern.shape:
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor, pattern.device_mesh, pattern.placements)  # type: ignore[attr-defined]


@contextmanager
def full_weights(model: nn.Module) -> Iterator[bool]:
    """`model` with whole parameters on the CPU while the first process saves it; True in that process."""
    if world_size() == 1:
        yield True
        return
    kept: list[tuple[nn.Module, str, nn.Parameter]] = []
    for module in model.modules():
        for leaf, parameter in list(module.named_parameters(recurse=False)):
            full = full_tensor(parameter)
            if rank() == 0:
                kept.append((module, leaf, parameter))
                module._parameters[leaf] = nn.Parameter(full, requires_grad=parameter.requires_grad)
    try:
        yield rank() == 0
    finally:
        for module, leaf, parameter in kept:
            module._parameters[leaf] = parameter
        dist.barrier()


def all_reduce(values: dict[str, float]) -> dict[str, float]:
    """The sum over all processes of figures that all have."""
    if world_size() == 1:
        return values
    total = torch.tensor(list(values.values()), dtype=torch.float64)
    total = total.cuda() if torch.cuda.is_available() else total
    dist.all_reduce(total)
    return dict(zip(values, total.tolist(), strict=True))


def all_gather(value: Any) -> list[Any]:
    """What each process has, in the order of their ranks, in all."""
    if world_size() == 1:
        return [value]
    values = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def broadcast(value: float) -> float:
    """The first process's value, in all."""
    return all_reduce({"value": value if rank() == 0 else 0.0})["value"]
