"""`train --encoder-layers N`: layers for the encoder alone, behind those of before; canvases stay to the last bit.

Encoder and decoder share all weights of a layer but the number that its output is multiplied by. Where the decoder
makes the stream 2^50 times as long in front of new layers, what these add is lost in rounding, and the last of them
makes it as long as before: the same bits come out, as powers of two are exact and every layer reads what is normed.
The encoder leaves the stream as long as it is: it reads, checks canvases and writes token by token with all layers.
The keys and values of the layers before do not depend on these, so canvases find there what they found.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from diffusiongemma.config import FULL, SLIDING
from diffusiongemma.errors import InputError
from diffusiongemma.model.backbone import Layer
from diffusiongemma.model.model import Model
from diffusiongemma.model.rope import Rotation
from diffusiongemma.train.objective import Batch, encode

LONGER = 2.0**50  # its squares are still floats, and 2^-24 of it is far more than what a layer adds
ADDS = ("post_attention_layernorm.weight", "post_feedforward_layernorm.weight")  # what scales it


def with_encoder_layers(model: Model, count: int, seed: int) -> Model:
    """`model` with `count` more layers for its encoder, random ones that add nothing yet; the last sees all that is
    before it, as the format demands, the others as far as the model's window."""
    kinds = (SLIDING,) * (count - 1) + (FULL,)
    made = Model(replace(model.config, layer_types=model.config.layer_types + kinds), model.make_vision)
    made.load_state_dict(model.state_dict(), strict=False)
    generator = torch.Generator().manual_seed(seed)
    new = made.backbone.layers[model.config.num_layers :]
    with torch.no_grad():
        for layer in new:
            for name, weight in layer.named_parameters():
                if weight.ndim > 1:
                    weight.normal_(0, weight.shape[-1] ** -0.5, generator=generator)
                elif name in ADDS:
                    weight.zero_()
        before: Layer = made.backbone.layers[model.config.num_layers - 1]  # type: ignore[assignment]
        before.layer_scalar.mul_(LONGER)
        new[-1].layer_scalar.div_(LONGER)  # type: ignore[operator]
    return made


def encoder_layers(model: Model) -> list[Layer]:
    """Those that only the encoder has."""
    layers: list[Layer] = list(model.backbone.layers)  # type: ignore[arg-type]
    return layers[model.backbone.decoding[0] :]


def train_encoder_layers(model: Model, count: int, seed: int) -> Model:
    """A model with `count` encoder layers, those of `model` where it has some; these alone get gradients.

    Raises `InputError` where it has another number of them."""
    has = len(encoder_layers(model))
    if has not in (0, count):
        raise InputError(f"the model has {has} layers for its encoder alone", option="--encoder-layers", got=count)
    model = model if has else with_encoder_layers(model, count, seed)
    model.requires_grad_(False)
    for layer in encoder_layers(model):
        layer.requires_grad_(True)
    return model


class Quickly:
    """What a layer that learns nothing does, by the packed layer in its place: a third of the time on a CPU."""

    def __init__(self, packed: Layer):
        self.packed, self.kernels = packed, packed.by_kernels

    def projects(self, layer: Layer, x: Tensor) -> bool:
        return self.kernels is not None and self.kernels.projects(self.packed, x)

    def before(self, x: Tensor, rotation: Rotation) -> tuple[Tensor, Tensor, Tensor]:
        assert self.kernels is not None
        return self.kernels.before(x, rotation)

    def finishes(self, layer: Layer, x: Tensor) -> bool:
        return self.kernels is not None and self.kernels.finishes(self.packed, x)

    def after(self, layer: Layer, x: Tensor, attended: Tensor, scalar: Tensor) -> Tensor:
        assert self.kernels is not None
        return self.kernels.after(self.packed, x, attended, scalar)


def read_quickly(model: Model, packed: Model) -> None:
    """Let the layers of `model` that are not the encoder's alone be computed by those of `packed`, the same model in 8
    bits. Its weights stay as they are."""
    for layer, quick in zip(model.backbone.layers[: model.backbone.decoding[0]], packed.backbone.layers, strict=False):
        layer.by_kernels = Quickly(quick)  # type: ignore[assignment,arg-type]


def as_before(model: Model, batch: Batch) -> Tensor:
    """Mean loss [] of the encoder, which `diffusiongemma.train.rolling.encoder_loss` stands for where nothing is kept.

    What the layers of before would say, they say in this pass. A token is learnt as they foretell it, with a weight of
    the probability that they give it: what was known stays, what was not is learnt.
    """
    backbone = model.backbone
    seen: list[Tensor] = []
    last = backbone.layers[backbone.decoding[0] - 1]
    handle = last.register_forward_hook(lambda layer, given, made: seen.append(made))
    try:
        hidden, _ = encode(model, batch.ids)
    finally:
        handle.remove()
    chosen = batch.supervised[:, 1:]
    targets = batch.ids[:, 1:][chosen]
    with torch.no_grad():
        known = backbone.logits(backbone.norm(seen[0]).view_as(hidden)[:, :-1][chosen]).softmax(-1)
        sure = known.gather(1, targets[:, None])  # [n, 1]
        wanted = (known * sure).scatter_add(1, targets[:, None], 1 - sure)
    return cross_entropy(backbone.logits(hidden[:, :-1][chosen]), wanted)


def no_canvases(step: int) -> list[Batch]:
    """The batches of a run that learns nothing about canvases."""
    return []
