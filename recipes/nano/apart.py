"""`python -m recipes.nano met OUT.npz`: the router inputs that a model meets on its canvases and in sudokus, by layer.

`train --experts N --met OUT.npz` gives a model N more experts in each layer and trains these alone. A token's result
depends on the experts that its router chooses and on nothing else of them, so it stays as it was, to the last bit,
wherever the router goes on choosing the old ones. A loss holds the new experts' scores below the old
ones' on what was met: that depends on the routers alone, so it costs two small products a layer and no pass.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from diffusiongemma.config import ModelConfig
from diffusiongemma.diffusion.decoding import Decoding
from diffusiongemma.diffusion.denoise import Canvas, denoise_step
from diffusiongemma.diffusion.noise import Noise
from diffusiongemma.errors import InputError
from diffusiongemma.model.layers import Router
from diffusiongemma.model.model import Model
from diffusiongemma.train.data import Tokenised, collate, tokenise
from diffusiongemma.train.mixtures import Source, mixed_source
from diffusiongemma.train.objective import Batch
from diffusiongemma.train.parallel import rank
from diffusiongemma.train.rolling import encoder_loss
from diffusiongemma.train.runtime import seed_of
from recipes.nano.everyday import FEWEST_GIVENS, apart_recipe, board_source
from recipes.nano.mixtures import DataDirs, _seeds
from recipes.nano.sources import boards

TOGETHER = 32  # canvases decoded at a time
SHARE = 0.1  # of a canvas's positions at a step that are kept; of a prompt's all are
GROUPS, FEWEST = 5, 8  # of texts of like length, and of texts in each
PER_EXPERT = ("router.proj.weight", "router.per_expert_scale", "experts.gate_up_proj", "experts.down_proj")
FITTED = 200  # steps, at most, that set a router
MOST_GIVENS = 60


@dataclass(frozen=True)
class Met:
    """What routers read: inputs [layers, n, D] in bfloat16, and the score [layers, n] of the last expert chosen."""

    inputs: Tensor
    bars: Tensor

    @classmethod
    def joined(cls, parts: Sequence[Met]) -> Met:
        return cls(torch.cat([part.inputs for part in parts], 1), torch.cat([part.bars for part in parts], 1))

    def sample(self, count: int, generator: torch.Generator, device: torch.device) -> Met:
        """So many of them, of every layer the same, in float32."""
        some = torch.randint(self.bars.shape[1], (count,), generator=generator)
        return Met(self.inputs[:, some].to(device).float(), self.bars[:, some].to(device).float())

    def of_old(self, model: Model, old: int) -> Met:
        """Those for which no expert from number `old` on is chosen in any layer."""
        kept = ~torch.stack(list(_chosen(self, model, old))).any(0)
        return Met(self.inputs[:, kept], self.bars[:, kept])

    def save(self, path: Path) -> None:
        np.savez(path, inputs=self.inputs.view(torch.int16).numpy(), bars=self.bars.numpy())

    @classmethod
    def load(cls, path: Path) -> Met:
        """Raises `InputError` where there are none."""
        try:
            with np.load(path) as file:
                inputs, bars = (torch.from_numpy(file[name]) for name in ("inputs", "bars"))
        except (OSError, KeyError, ValueError) as error:
            message = f"{path} holds no router inputs ({error}): make them with `python -m recipes.nano met`"
            raise InputError(message) from None
        return cls(inputs.view(torch.bfloat16), bars)


def routers(model: Model) -> list[Router]:
    return [layer.router for layer in model.backbone.layers]  # type: ignore[misc]


def check_layers(model: Model) -> None:
    """Raises `InputError` for a model with layers for its encoder alone: canvases don't meet the routers there."""
    if model.backbone.decoding[0] < model.config.num_layers:
        raise InputError("the model has layers for its encoder alone: experts that learn apart come before these")


def train_new_experts(model: Model, old: int) -> None:
    """Of all parameters only what is of experts from number `old` on gets gradients that are not zero."""
    model.requires_grad_(False)
    for layer in model.backbone.layers:
        for name, weight in layer.named_parameters():
            if name in PER_EXPERT:
                weight.requires_grad_(True)
                weight.register_hook(_rows_from(old))


def _rows_from(first: int) -> Any:
    def masked(gradient: Tensor) -> Tensor:
        gradient = gradient.clone()
        gradient[:first] = 0
        return gradient

    return masked


class Apart:
    """The loss of new experts, from number `old` on, that come near to being chosen for what was `met`, and of too few
    that are chosen for what is `wanted`, if anything."""

    ROWS = 8192  # of each layer at a step
    MARGIN = 0.5  # scores differ by about 1 between inputs
    WEIGHT = 1000.0  # of what was met, beside what is wanted

    def __init__(self, met: Met, wanted: Met | None, old: int, seed: int):
        self.met, self.wanted, self.old, self.seed = met, wanted, old, seed

    def __call__(self, model: Model, step: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed_of(self.seed, step))
        met = self.met.sample(self.ROWS, generator, model.device)
        wanted = self.wanted and self.wanted.sample(self.ROWS // 4, generator, model.device)
        losses = []
        for layer, router in enumerate(routers(model)):
            rows = router.proj.weight[self.old :]
            losses.append(self.WEIGHT * near(met.inputs[layer] @ rows.T, met.bars[layer]))
            if wanted is not None:
                best = (wanted.inputs[layer] @ rows.T).topk(router.top_k).values
                losses.append(near(-best, -wanted.bars[layer]))
        return torch.stack(losses).sum()


def near(scores: Tensor, bars: Tensor) -> Tensor:
    """How near scores [n, experts] come to the bars [n], or how far above they are: mean over n of squares [].

    Of the negatives of both: how far scores are below the bars.
    """
    return torch.relu(scores - bars[:, None] + Apart.MARGIN).square().sum(1).mean()


def set_routers(model: Model, met: Met, wanted: Met, old: int, seed: int) -> None:
    """Let new experts, from number `old` on, be chosen for what is `wanted`, and not for what was `met`.

    They are copies of the old ones in turn, so in groups that each do what the old ones did; of a kind of what is
    wanted (k-means) the scores of one group are raised, all by the same, so that the model stays as it was at first.
    """
    generator = torch.Generator().manual_seed(seed)
    for layer, router in enumerate(routers(model)):
        weight = router.proj.weight.detach()
        groups = (len(weight) - old) // old
        kinds = nearest_kind(wanted.inputs[layer].float(), groups, generator)
        raised = _fitted(met, wanted, layer, functional.one_hot(kinds, groups).bool(), weight[:old])
        weight[old:] = (raised[:, None] + weight[:old]).flatten(0, 1)


def _fitted(met: Met, wanted: Met, layer: int, mine: Tensor, rows: Tensor) -> Tensor:
    """What raises the groups' scores [groups, D] over those of `rows` [old, D] with little loss, where those of
    `mine` [n, groups] are wanted."""
    inputs, sought = met.inputs[layer].float(), wanted.inputs[layer].float()
    room = met.bars[layer] - (inputs @ rows.T).amax(1)
    scores = sought @ rows.T
    above = scores.amax(1) - wanted.bars[layer]  # raised by more, a group has all that are chosen
    raised = torch.zeros(mine.shape[1], inputs.shape[1], requires_grad=True)
    stepper = torch.optim.LBFGS([raised], max_iter=FITTED, history_size=20, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        stepper.zero_grad()
        up = sought @ raised.T
        others = up.masked_fill(mine, 0.0)  # one's own place stands for the old experts
        lacking = near(others - up[mine][:, None], -above)
        total = Apart.WEIGHT * near(inputs @ raised.T, room) + lacking + 1e-6 * raised.square().sum()
        total.backward()
        return total

    with torch.enable_grad():
        stepper.step(loss)
    return raised.detach()


def nearest_kind(inputs: Tensor, count: int, generator: torch.Generator, rounds: int = 8) -> Tensor:
    """inputs [n, D] -> the number of the nearest of `count` kinds that they fall into [n]."""
    centres = inputs[torch.randperm(len(inputs), generator=generator)[:count]]
    for _ in range(rounds):
        kinds = torch.cdist(inputs, centres).argmin(1)
        sums = torch.zeros_like(centres).index_add(0, kinds, inputs)
        counts = torch.bincount(kinds, minlength=count)[:, None]
        centres = torch.where(counts > 0, sums / counts.clamp(min=1), centres)
    return torch.cdist(inputs, centres).argmin(1)


def shares_chosen(met: Met, model: Model, old: int) -> list[float]:
    """Of each layer, the share of what was met for which a new expert is chosen."""
    return [float(chosen.float().mean()) for chosen in _chosen(met, model, old)]


def _chosen(met: Met, model: Model, old: int) -> Iterator[Tensor]:
    """Of each layer, whether a new expert is chosen for what was met [n]."""
    for x, router, bar in zip(met.inputs, routers(model), met.bars, strict=True):
        yield (x.float() @ router.proj.weight[old:].detach().T).amax(1) >= bar


class Texts:
    """The loss of the encoder on texts of their own, `count` in each process, which costs a third of what it costs with
    a canvas behind them."""

    def __init__(
        self,
        source: Source,
        config: ModelConfig,
        count: int,
        seed: int,
        weight: float = 2.0,
        loss: Callable[[Model, Batch], Tensor] = encoder_loss,
    ):
        self.source, self.config, self.count, self.seed, self.weight = source, config, count, seed, weight
        self.loss = loss

    def __call__(self, model: Model, step: int) -> Tensor:
        rng = np.random.default_rng((self.seed, step, 1 + rank()))
        groups = least_padded(self.source(rng, self.count, step), min(GROUPS, -(-self.count // FEWEST)))
        batches = [collate(group, self.config, rng).to(model.device) for group in groups]
        tokens = [int(batch.supervised[:, 1:].sum()) for batch in batches]
        losses = [self.loss(model, batch) * n for batch, n in zip(batches, tokens, strict=True)]
        return self.weight * torch.stack(losses).sum() / sum(tokens)


def least_padded(examples: Sequence[Tokenised], groups: int) -> list[Sequence[Tokenised]]:
    """At most `groups` batches of like length, with the least padding that there can be; in n² time for each."""
    ordered = sorted(examples, key=lambda e: e.tokens)
    best: list[tuple[int, list[int]]] = [(0, [0])]  # padded tokens and cuts, of the first so many
    for group in range(min(groups, len(ordered))):
        best = [(0, [0])] + [
            min((best[a][0] + (b - a) * ordered[b - 1].tokens, [*best[a][1], b]) for a in range(b if group else 1))
            for b in range(1, len(ordered) + 1)
        ]
    return [ordered[a:b] for a, b in pairwise(best[-1][1])]


# --- meeting them -----------------------------------------------------------------------------------------------------


@contextmanager
def recorded(model: Model) -> Iterator[list[list[Tensor]]]:
    """What each router reads while the context lasts: by layer, inputs [N, D] of each pass."""
    seen: list[list[Tensor]] = [[] for _ in routers(model)]

    def hook(number: int) -> Any:
        def keep(router: Router, arguments: tuple[Tensor, ...]) -> None:
            (x,) = arguments
            seen[number].append(router.norm(x) * router.scale * x.shape[-1] ** -0.5)

        return keep

    handles = [router.register_forward_pre_hook(hook(i)) for i, router in enumerate(routers(model))]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def met_by(
    model: Model,
    prompts: list[list[int]],
    decoding: Decoding,
    rng: np.random.Generator,
    old: int | None = None,
    prompts_too: bool = True,
) -> Met:
    """What is met while the first canvases behind prompts are decoded, by the `old` experts, and while the prompts are
    read."""
    config = model.config
    with recorded(model) as reading:
        cache = [_encode(model, ids, reading) for ids in prompts]
    seeds = rng.integers(2**31, size=len(prompts))
    going = [
        Canvas.open(row, config.canvas_length, config.vocab_size, Noise(int(seed), 0), decoding, model.device)
        for row, seed in zip(cache, seeds, strict=True)
    ]
    with recorded(model) as denoising:
        while going:
            denoise_step(model, going)
            going = [canvas for canvas in going if not canvas.done]
    read, denoised = (torch.stack([torch.cat(parts) for parts in seen]) for seen in (reading, denoising))
    kept = denoised[:, torch.from_numpy(rng.random(denoised.shape[1]) < SHARE)]
    return _met(model, torch.cat([read, kept], 1) if prompts_too else kept, old)


@torch.no_grad()
def met_reading(model: Model, examples: Sequence[Tokenised], answers: bool = False, old: int | None = None) -> Met:
    """What is met while the encoder reads examples, or of these their `answers` alone; by the `old` experts."""
    with recorded(model) as seen:
        for example in examples:
            _encode(model, example.prompt + example.answer[: example.length], seen)
            for inputs in seen:
                inputs[-1] = inputs[-1][len(example.prompt) if answers else 0 :]
    return _met(model, torch.stack([torch.cat(parts) for parts in seen]), old)


def _encode(model: Model, ids: list[int], seen: list[list[Tensor]]) -> Any:
    """The cache of ids; of what routers read meanwhile, the rows that fill up a batch are left out."""
    row = model.encode(torch.tensor([ids])).rows[0]
    for inputs in seen:
        inputs[-1] = inputs[-1][: len(ids)]
    return row


def _met(model: Model, inputs: Tensor, old: int | None) -> Met:
    """Of inputs [layers, n, D], with the least score of those that would be chosen if there were but `old` experts."""
    bars = [
        (x @ router.proj.weight[:old].T).topk(router.top_k).values[:, -1]
        for x, router in zip(inputs, routers(model), strict=True)
    ]
    return Met(inputs.bfloat16(), torch.stack(bars))


def sudokus(tokenizer: Any, config: Any, dirs: DataDirs) -> Source:
    """In all spellings, some of them as pictures."""
    seeds = _seeds(dirs)

    def typed(rng: np.random.Generator, count: int, step: int) -> list[Tokenised]:
        drawn = zip(*boards.sudoku.sample_boards(seeds, count, rng, givens=(FEWEST_GIVENS, MOST_GIVENS)), strict=True)
        return tokenise([boards.pair(rng, *one, usual=0.6) for one in drawn], tokenizer, config)

    return mixed_source((typed, 0.8), (board_source(tokenizer, config, seeds, MOST_GIVENS, pictures=1.0), 0.2))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", type=Path, metavar="OUT.npz")
    parser.add_argument(
        "--model", default="nano-base", help="which one; default nano-base (canvases meet all its layers)"
    )
    parser.add_argument("--sudokus", type=int, default=512, help="that it reads and solves")
    parser.add_argument("--canvases", type=int, default=256, help="of other answers, that it decodes")
    left_out = "leave out what experts from number N on are chosen for already: those that are to learn further"
    parser.add_argument("--new-from", type=int, default=0, metavar="N", help=left_out)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"), help="where seed puzzles are kept")


def run(options: argparse.Namespace) -> None:
    import diffusiongemma as dg

    loaded = dg.load(options.model, dtype="float32")
    model, decoding = loaded.network, loaded.generation
    check_layers(model)
    dirs, rng = DataDirs(options.cache), np.random.default_rng(options.seed)
    boards = sudokus(loaded.tokenizer, model.config, dirs)
    talk = mixed_source(
        *((part.source, part.share) for part in apart_recipe(loaded.tokenizer, model.config, dirs, "talk").parts)
    )
    parts: list[Met] = []
    for source, count in ((boards, options.sudokus), (talk, options.canvases)):
        for made in range(0, count, TOGETHER):
            prompts = [example.prompt for example in source(rng, min(TOGETHER, count - made), 0)]
            parts.append(met_by(model, prompts, decoding, rng, prompts_too=source is boards))
            print(f"{made + len(prompts)} of {count} canvases", flush=True)
    met = Met.joined(parts)
    (met.of_old(model, options.new_from) if options.new_from else met).save(options.out)
