"""A model with wider MLPs that computes what it was made from, and can learn more (Net2Net, Chen et al. 2016)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from diffusiongemma.model.model import Model
from diffusiongemma.train.optimisation import initialise


@torch.no_grad()
def widened(model: Model, factor: int, seed: int = 0) -> Model:
    """`model` with `factor` times as many hidden units in dense MLPs, self-conditioner and experts.

    New units get random weights in and zeros out, so that logits stay the same until they are trained.
    """
    config = model.config
    config = replace(
        config,
        intermediate_size=factor * config.intermediate_size,
        moe_intermediate_size=factor * config.moe_intermediate_size,
    )
    vision = model.vision
    wide = Model(config, None if vision is None else lambda _: vision)
    initialise(wide, seed)
    narrow = model.backbone.state_dict()
    for name, tensor in wide.backbone.state_dict().items():
        _fill(name, tensor, narrow[name])
    return wide


def _fill(name: str, wide: Tensor, narrow: Tensor) -> None:
    """The narrow tensor in the first places of the wide one; what leads out of new units is zero."""
    if name.endswith("gate_up_proj"):  # gates, then the values that they let through
        wide, narrow = (x.unflatten(1, (2, -1)) for x in (wide, narrow))
    if name.endswith("down_proj") or name.endswith("down_proj.weight"):
        wide.zero_()
    wide[tuple(slice(size) for size in narrow.shape)] = narrow
