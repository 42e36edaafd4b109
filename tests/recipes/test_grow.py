"""A grown model computes nearly what the one it grew from does, and every part of it can learn."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import diffusiongemma
from diffusiongemma.train.objective import Batch, Draw, Objective, loss
from diffusiongemma.weights.checkpoint import load_model
from recipes.nano.grow import grown

NANO = Path(diffusiongemma.__file__).parent / "assets" / "nano"


@pytest.mark.parametrize(
    "wider",
    [
        {"hidden_size": 192},
        {"num_attention_heads": 6},
        {"intermediate_size": 320, "moe_intermediate_size": 96},
        {"hidden_size": 192, "intermediate_size": 512, "num_attention_heads": 6},
    ],
)
def test_a_grown_model_predicts_what_it_did(wider: dict[str, int]):
    nano = load_model(NANO, torch.float32)
    larger = grown(nano, **wider)
    ids = torch.arange(300, 340)[None]
    canvas = torch.arange(500, 596)[None]
    with torch.no_grad():
        logits = [m.denoise(canvas, m.encode(ids), None) for m in (nano, larger)]
        soft = [m.soft_embedding(x.softmax(-1)) for m, x in zip((nano, larger), logits, strict=True)]
        again = [m.denoise(canvas, m.encode(ids), s) for m, s in zip((nano, larger), soft, strict=True)]
    for before, after in (logits, again):
        before_log, after_log = before.log_softmax(-1), after.log_softmax(-1)
        assert (before_log.exp() * (before_log - after_log)).sum(-1).mean() < 0.02  # nats
        assert (before.argmax(-1) == after.argmax(-1)).float().mean() > 0.85  # many are near ties


def test_everything_new_gets_a_gradient():
    larger = grown(load_model(NANO, torch.float32), hidden_size=192, intermediate_size=384, num_attention_heads=6)
    larger.requires_grad_(True)
    batch = Batch(
        ids=torch.arange(300, 340)[None],
        start=torch.tensor([40]),
        canvas=torch.arange(500, 596)[None],
        supervised=torch.zeros(1, 40, dtype=torch.bool),
    )
    objective = Objective(self_conditioning=1.0)
    draw = Draw.sample(1, 96, larger.config.vocab_size, objective, torch.Generator().manual_seed(0))
    loss(larger, batch, draw, objective).total.backward()
    for name in ("layers.0.mlp.down_proj.weight", "layers.3.self_attn.o_proj.weight", "embed_tokens.weight"):
        gradient = larger.backbone.get_parameter(name).grad
        assert gradient is not None and bool((gradient != 0).any(0).all())
