"""nano's vision tower: its shape, its first weights, and how it speaks in the text model's embeddings.

Eleven symbols can stand in a square of a page: a dot for nothing, the digits, and a newline beside the board. The
tower's projection is the product of a readout, which says how much of each symbol it sees, and of their embeddings. So
another text model needs another product and no training (`refit`).
"""

from __future__ import annotations

import copy
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
from recipes.nano.sources.pictured import COLUMNS, ROWS, SYMBOLS

TOWER: dict[str, Any] = {
    "model_type": "gemma4_vision", "hidden_size": 160, "intermediate_size": 512, "num_hidden_layers": 4,
    "num_attention_heads": 8, "num_key_value_heads": 8, "head_dim": 16,
    # Of 140 soft tokens, 420 patches in a row when a picture is a strip.
    "position_embedding_size": 420, "patch_size": 16, "pooling_kernel_size": 3,
}  # fmt: skip
SOFT_TOKENS = 140  # at most, for an image: the least number of the release's that a page fits
PAGE = (9 * 48, COLUMNS * 48, ROWS * 48)  # pixels: a board's side, and the page's width and height
SQUARE_WITHIN = 1.2  # the sides of a picture that is made square: of a board cut out by hand
SHARPNESS = 8.0  # of the softmax over what the readout gives, which is to be 1 for what is there and 0 for the rest


def symbol_embeddings(model: Model, tokenizer: Any) -> Tensor:
    """Of the eleven symbols, as the text stack reads them: scaled, [11, D]."""
    ids = [tokenizer.encode(symbol, add_special_tokens=False) for symbol in SYMBOLS]
    with torch.no_grad():
        return model.backbone.embed(torch.tensor(ids)[:, 0]).clone()


def refit(vision: Vision, old: Tensor, new: Tensor) -> None:
    """Speak in the embeddings `new` [11, D'] where it spoke in `old` [11, D]."""
    readout = readout_of(vision, old)
    width = vision.projection.in_features
    vision.projection = nn.Linear(width, new.shape[1], bias=False)
    project(vision, readout, new)


def readout_of(vision: Vision, embeddings: Tensor) -> Tensor:
    """The readout [11, width] whose product with the `embeddings` [11, D] is the projection."""
    return torch.linalg.pinv(embeddings.T.double()).float() @ vision.projection.weight.detach().float()


@torch.no_grad()
def project(vision: Vision, readout: Tensor, embeddings: Tensor) -> None:
    vision.projection.weight.copy_(embeddings.T @ readout)


class Reader(nn.Module):
    """A tower with its readout, from the brightness of pages' patches to symbols, as a convolution.

    What it computes is what the tower computes but for the 0.2 % of attention that its heads give elsewhere than to
    the patch they are held to (`first_sight`). All colours count the same.
    """

    def __init__(self, vision: Vision, embeddings: Tensor):
        super().__init__()
        self.vision = vision
        self.brightness = nn.Parameter(self._patch_weights().sum(-1))  # [width, 256]
        self.readout = nn.Parameter(readout_of(vision, embeddings))

    def _patch_weights(self) -> Tensor:
        weight = self.vision.tower.patch_embedder.input_proj.weight.detach()
        return weight.view(len(weight), -1, 3)

    def trained(self) -> dict[str, nn.Parameter]:
        """All but what `first_sight` holds, and what follows from other weights."""
        held = ("input_proj", "q_proj", "k_proj", "q_norm", "k_norm", "vision.projection")
        return {name: p for name, p in self.named_parameters() if not any(part in name for part in held)}

    @torch.no_grad()
    def exported(self, embeddings: Tensor) -> Vision:
        """A copy of the tower as it is now, on the CPU, that speaks in these `embeddings` [11, D]."""
        made = copy.deepcopy(self).cpu()
        made._patch_weights().copy_(made.brightness[..., None].expand(-1, -1, 3) / 3)
        project(made.vision, made.readout, embeddings)
        return made.vision

    def forward(self, patches: Tensor) -> Tensor:
        """Patches [B, H, W, 256] from 0 to 1 -> how much of each symbol each square shows [B, H * W / 9, 11]."""
        height, width, pool = *patches.shape[1:3], TOWER["pooling_kernel_size"]
        tower = self.vision.tower
        table = tower.patch_embedder.position_embedding_table
        hidden = F.linear(2 * patches - 1, self.brightness) + (table[0, :width] + table[1, :height, None])
        for layer in tower.encoder.layers:
            hidden = layer_as_convolution(layer, hidden)
        squares = hidden.float().unflatten(2, (width // pool, pool)).unflatten(1, (height // pool, pool))
        pooled = squares.mean((2, 4)).flatten(1, 2)
        with torch.autocast(patches.device.type, enabled=False):
            return F.linear(self.vision.norm(pooled * pooled.shape[-1] ** 0.5), self.readout)


def layer_as_convolution(layer: Any, hidden: Tensor) -> Tensor:
    """A layer of the tower on [B, H, W, D], each head looking at its neighbour; at the rim, at what is nearest."""
    attention = layer.self_attn
    values = attention.v_proj(normed(layer.input_layernorm, hidden)).unflatten(-1, (len(AROUND), -1))
    values = normed(attention.v_norm, values)
    seen = attention.o_proj(neighbours(values))
    hidden = hidden + normed(layer.post_attention_layernorm, seen)
    inner = layer.mlp(normed(layer.pre_feedforward_layernorm, hidden))
    return hidden + normed(layer.post_feedforward_layernorm, inner)


def normed(norm: Any, x: Tensor) -> Tensor:
    """`norm(x)`, in one kernel."""
    return F.rms_norm(x.float(), x.shape[-1:], getattr(norm, "weight", None), norm.eps)


def neighbours(values: Tensor) -> Tensor:
    """Values [B, H, W, 8, d] -> [B, H, W, 8 * d], of each head those of the patch that is `AROUND` away."""
    _, height, width = values.shape[:3]
    rows = torch.cat([values[:, :1], values, values[:, -1:]], 1)
    framed = torch.cat([rows[:, :, :1], rows, rows[:, :, -1:]], 2)
    heads = [
        framed[:, 1 + down : 1 + down + height, 1 + right : 1 + right + width, head]
        for head, (right, down) in enumerate(AROUND)
    ]
    return torch.cat(heads, -1)


def losses(seen: Tensor, symbols: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy and squared error of what was seen [..., 11] of `symbols` [...], means with `weights` [...]."""
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
    settings |= {"page": list(PAGE), "symbols": SYMBOLS}
    (out / "preprocessor_config.json").write_text(json.dumps(settings, indent=2) + "\n")
