"""nano's vision tower: its shape, its first weights, and how it speaks in the text model's embeddings.

Ten symbols can stand in a square of a picture: a dot for nothing, and the digits. The tower's projection is the product
of a readout, which says how much of each symbol it sees, and of their embeddings. So another text model needs another
product and no training (`refit`).
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusiongemma.model.model import Model
from diffusiongemma.model.vision import Vision
from diffusiongemma.weights.saving import save_model
from diffusiongemma.weights.skills import SKILLS, SUDOKU_PICTURES, add_skill
from recipes.nano.first_sight import AROUND, first_weights

SYMBOLS = ".123456789"
TOWER: dict[str, Any] = {
    "model_type": "gemma4_vision", "hidden_size": 96, "intermediate_size": 256, "num_hidden_layers": 3,
    "num_attention_heads": 8, "num_key_value_heads": 8, "head_dim": 16,
    # Of 140 soft tokens, 420 patches in a row when a picture is a strip.
    "position_embedding_size": 420, "patch_size": 16, "pooling_kernel_size": 3,
}  # fmt: skip
SOFT_TOKENS = 140  # at most, for an image: 11 x 11 for a square one
SQUARE_WITHIN = 1.2  # the sides of a picture that is made square: of a board cut out by hand
SHARPNESS = 8.0  # of the softmax over what the readout gives, which is to be 1 for what is there and 0 for the rest


def symbol_embeddings(model: Model, tokenizer: Any) -> Tensor:
    """Of the ten symbols, as the text stack reads them: scaled, [10, D]."""
    with torch.no_grad():
        return model.backbone.embed(torch.tensor(tokenizer.convert_tokens_to_ids(list(SYMBOLS)))).clone()


def refit(vision: Vision, old: Tensor, new: Tensor) -> None:
    """Speak in the embeddings `new` [10, D'] where it spoke in `old` [10, D]."""
    readout = readout_of(vision, old)
    width = vision.projection.in_features
    vision.projection = nn.Linear(width, new.shape[1], bias=False)
    project(vision, readout, new)


def readout_of(vision: Vision, embeddings: Tensor) -> Tensor:
    """The readout [10, width] whose product with the `embeddings` [10, D] is the projection."""
    return torch.linalg.pinv(embeddings.T.double()).float() @ vision.projection.weight.detach().float()


@torch.no_grad()
def project(vision: Vision, readout: Tensor, embeddings: Tensor) -> None:
    vision.projection.weight.copy_(embeddings.T @ readout)


class Reader(nn.Module):
    """A tower with its readout, from the waves of square pictures' patches to symbols, as a convolution.

    What it computes is what the tower computes but for the 0.2 % of attention that its heads give elsewhere than to
    the patch they are held to (`first_sight`). Its first layer is not trained: `waves` are taken once for each picture.
    """

    def __init__(self, vision: Vision, embeddings: Tensor):
        super().__init__()
        self.tower, self.norm = vision.tower, vision.norm
        self.readout = nn.Parameter(readout_of(vision, embeddings))

    def trained(self) -> dict[str, nn.Parameter]:
        """All but what `first_sight` holds."""
        held = ("input_proj", "q_proj", "k_proj", "q_norm", "k_norm")
        return {name: p for name, p in self.named_parameters() if not any(part in name for part in held)}

    @torch.no_grad()
    def waves(self, patches: Tensor) -> Tensor:
        """Of patches [..., 768] from 0 to 1 -> [..., D]."""
        return self.tower.patch_embedder.input_proj(2 * patches - 1)

    def forward(self, waves: Tensor) -> Tensor:
        """Waves [B, n, n, D] of n x n patches -> how much of each symbol each square shows [B, (n / 3)², 10]."""
        n, pool = waves.shape[1], TOWER["pooling_kernel_size"]
        table = self.tower.patch_embedder.position_embedding_table
        hidden = waves + table[0, :n] + table[1, :n, None]
        for layer in self.tower.encoder.layers:
            hidden = layer_as_convolution(layer, hidden)
        pooled = hidden.unflatten(2, (n // pool, pool)).unflatten(1, (n // pool, pool)).mean((2, 4)).flatten(1, 2)
        return F.linear(self.norm(pooled * pooled.shape[-1] ** 0.5), self.readout)


def layer_as_convolution(layer: Any, hidden: Tensor) -> Tensor:
    """A layer of the tower on [B, n, n, D], each head looking at its neighbour; at the rim, at what is nearest."""
    attention = layer.self_attn
    values = attention.v_proj(layer.input_layernorm(hidden)).unflatten(-1, (len(AROUND), -1))
    heads = attention.v_norm(values).unbind(3)
    seen = [beside(beside(head, rows, 1), columns, 2) for head, (columns, rows) in zip(heads, AROUND, strict=True)]
    hidden = hidden + layer.post_attention_layernorm(attention.o_proj(torch.cat(seen, -1)))
    return hidden + layer.post_feedforward_layernorm(layer.mlp(layer.pre_feedforward_layernorm(hidden)))


def beside(x: Tensor, step: int, dim: int) -> Tensor:
    """What is `step` (-1, 0 or 1) further along `dim`; the last stands for what would be beyond."""
    if not step:
        return x
    first, last, rest = x.narrow(dim, 0, 1), x.narrow(dim, -1, 1), x.shape[dim] - 1
    return torch.cat([x.narrow(dim, 1, rest), last] if step > 0 else [first, x.narrow(dim, 0, rest)], dim)


def losses(seen: Tensor, symbols: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy and squared error of what was seen [..., 10] of `symbols` [...], means with `weights` [...]."""
    seen, symbols, weights = seen.flatten(0, -2), symbols.flatten(), weights.flatten()
    total = weights.sum()
    entropy = F.cross_entropy(SHARPNESS * seen, symbols, reduction="none")
    error = (seen - F.one_hot(symbols, len(SYMBOLS))).square().sum(-1)
    return (entropy * weights).sum() / total, (error * weights).sum() / total


# --- models ---------------------------------------------------------------------------------------------------------


def new_vision(model: Model, seed: int) -> Vision:
    """A tower of the shape `TOWER` with first weights, for this model's width."""
    vision = Vision(replace(model.config, vision_config=TOWER))
    first_weights(vision.tower, seed)
    return vision


def with_tower(model: Model, vision: Vision) -> Model:
    """The model's text weights with this tower, and image tokens that are read in order, as in training."""
    config = replace(model.config, vision_config=TOWER, use_bidirectional_attention=None)
    made = Model(config)
    weights = {name: p for name, p in model.state_dict().items() if not name.startswith("vision.")}
    made.load_state_dict(weights, strict=False)
    made._modules["vision"] = vision
    return made


def write(model: Model, source: Path, out: Path) -> None:
    """A directory as `save_model` makes it, with the tower's shape and the pictures' size in its settings, and with the
    skill where the source says what it was taught."""
    save_model(model, out, source=source, dtype=torch.bfloat16)
    raw = json.loads((out / "config.json").read_text())
    new = model.config.to_hf()
    raw["vision_config"] = new["vision_config"]
    raw["text_config"]["use_bidirectional_attention"] = new["text_config"]["use_bidirectional_attention"]
    (out / "config.json").write_text(json.dumps(raw, indent=2) + "\n")
    if (out / SKILLS).exists():
        add_skill(out, SUDOKU_PICTURES)
    settings = json.loads((source / "preprocessor_config.json").read_text())
    settings |= {"max_soft_tokens": SOFT_TOKENS, "square_within": SQUARE_WITHIN, "dark_on_light": True}
    (out / "preprocessor_config.json").write_text(json.dumps(settings, indent=2) + "\n")
