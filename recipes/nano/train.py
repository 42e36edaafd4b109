"""`python -m recipes.nano train OUT --recipe base|skills|… --budget 1h`: train an embedded model.

`base` makes nano-base, from random weights; `skills` with `--init` makes nano of it, and `sudoku` teaches it that one
skill. `more-skills` and `more-sudoku` go on with what these made, and `own-skills` and `own-sudoku` with `--rollouts`
learn from the canvases that such a model makes itself. `talk` and `modest` with `--experts` teach more to such a model
without a change to how it solves sudokus (`recipes.nano.apart`), and `whole` with `--held` nearly without one
(`recipes.nano.held`). `everyday` teaches all that people try first at once,
to a model that `--grow` makes wider, and `own-everyday` goes on from it. The directory gets everything that `load` and
transformers need; the tokenizer is copied from the package. `--resume` goes on with a run that was stopped or killed.
In two processes: `torchrun --nproc-per-node 2 -m recipes.nano train …`.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diffusiongemma.config import FULL, SLIDING, ModelConfig
from diffusiongemma.diffusion.decoding import Decoding
from diffusiongemma.diffusion.temperature import Temperature
from diffusiongemma.errors import InputError
from diffusiongemma.model.model import Model
from diffusiongemma.train.checkpointing import RunDirectory
from diffusiongemma.train.config import PRECISIONS, TrainConfig
from diffusiongemma.train.objective import Objective
from diffusiongemma.train.optimisation import initialise
from diffusiongemma.train.parallel import process_group, rank
from diffusiongemma.train.progress import Means, plain_line, seconds_of
from diffusiongemma.train.rolling import encoder_loss
from diffusiongemma.train.rollouts import Rollouts
from diffusiongemma.train.run import Run
from diffusiongemma.train.trainer import Also, Hooks, train
from diffusiongemma.weights.checkpoint import load_model
from diffusiongemma.weights.generation import decoding_files
from diffusiongemma.weights.locate import ASSETS, choose_device
from diffusiongemma.weights.saving import save_model
from recipes.nano.apart import Apart, Met, Texts, check_layers, met_reading, set_routers, sudokus, train_new_experts
from recipes.nano.deeper import as_before, no_canvases, read_quickly, train_encoder_layers
from recipes.nano.everyday import EVERYDAY, SHARES, apart_texts
from recipes.nano.grow import grown, with_experts
from recipes.nano.held import Held, train_all_but
from recipes.nano.mixtures import RECIPES as SKILLS
from recipes.nano.mixtures import DataDirs
from recipes.nano.pages import Pages

RECIPES = SKILLS | EVERYDAY
WIDER = {"hidden_size": 192, "intermediate_size": 512, "num_attention_heads": 6}  # 4.4M parameters

BATCH = 64
TO_BE_SET = 400  # texts that set the routers of new experts

NANO = ASSETS / "nano"
SIDE_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "preprocessor_config.json")
# What a run goes on with.
SETTINGS = (
    "recipe",
    "batch",
    "init",
    "experts",
    "new_from",
    "met",
    "held",
    "before",
    "texts",
    "pages",
    "muon",
    "encoder_layers",
    "kept",
)
# The smallest vision tower that transformers builds; without one it would add 167M random parameters.
VISION = {
    "model_type": "gemma4_vision", "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
    "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 16, "position_embedding_size": 256,
    "patch_size": 16, "pooling_kernel_size": 3,
}  # fmt: skip


def nano_config(tokenizer: Any) -> ModelConfig:
    def token(name: str) -> int:
        return tokenizer.convert_tokens_to_ids(name)

    return ModelConfig(
        vocab_size=len(tokenizer), hidden_size=128, intermediate_size=256, num_attention_heads=4,
        num_key_value_heads=2, head_dim=32, num_global_key_value_heads=1, global_head_dim=64,
        layer_types=(SLIDING,) * 5 + (FULL,), sliding_window=256, num_experts=4, top_k_experts=2,
        moe_intermediate_size=64, max_position_embeddings=8192, canvas_length=96,
        pad_token_id=token("<pad>"), eos_token_id=token("<eos>"), bos_token_id=token("<bos>"),
        boi_token_id=token("<|image>"), image_token_id=token("<|image|>"), eoi_token_id=token("<image|>"),
        vision_config=VISION, dtype="bfloat16",
        # Pictures are taught as tokens in order, each of which sees those before it.
        use_bidirectional_attention=None,
    )  # fmt: skip


def decoding_rules(config: ModelConfig, tokenizer: Any, recipe: str) -> Decoding:
    ends = tuple(tokenizer.convert_tokens_to_ids(["<eos>", "<turn|>"]))
    return Decoding(
        max_new_tokens=config.canvas_length,
        eos_token_ids=ends,
        # Closer to 1, the temperature of the first reading in training, than the release: see the log.
        temperature=Temperature(0.8, 1.0),
        # Texts stand still long before they are sure of themselves, and the encoder knows them better. One that was not
        # taught how little it knows of sudokus is surprised by the right ones.
        patience=6,
        verify="surprising" if recipe in SHARES else "unconverged",
    )


def write_configs(config: ModelConfig, tokenizer: Any, directory: Path, recipe: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    files = {"config.json": config.to_hf()} | decoding_files(decoding_rules(config, tokenizer, recipe), config)
    for name, value in files.items():
        (directory / name).write_text(json.dumps(value, indent=2) + "\n")
    for name in SIDE_FILES:
        if directory.resolve() != NANO:
            shutil.copy(NANO / name, directory)


def new_model(
    tokenizer: Any,
    seed: int,
    init: Path | None,
    device: str = "cpu",
    grow: bool = False,
    experts: int = 0,
    new_from: int = 0,
    held: bool = False,
    muon: float = 0.0,
) -> Model:
    """Float32 weights, random or those of `init`, made wider with `grow`; the vision tower is not trained. Of a model
    with more `experts`, or with experts that are `new_from` some number on, these alone are, or with `held` all but
    the others."""
    if init is not None:
        model = load_model(init, torch.float32)
    else:
        model = Model(nano_config(tokenizer))
        initialise(model, seed)
    if grow:
        model = grown(model, seed, **WIDER)
    if new_from >= model.config.num_experts:
        message = f"the model has {model.config.num_experts} experts: none is new from there on"
        raise InputError(message, option="--new-from", got=new_from)
    new_from = new_from or model.config.num_experts
    if experts % model.config.num_experts:
        message = f"new experts are copies of all {model.config.num_experts} that the model has, so a multiple of these"
        raise InputError(message, option="--experts", got=experts)
    if experts:
        model = with_experts(model, experts)
    model = model.to(choose_device(device))
    model.requires_grad_(False)
    if new_from < model.config.num_experts:
        if held:
            train_all_but(model, new_from, muon)
        else:
            train_new_experts(model, new_from)
    else:
        model.backbone.requires_grad_(True)
    return model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", type=Path, metavar="OUT", help="directory for the model")
    parser.add_argument("--recipe", choices=RECIPES, default="sudoku")
    parser.add_argument("--init", type=Path, metavar="DIR", help="start from these weights instead of random ones")
    parser.add_argument("--grow", action="store_true", help="make a model of nano's first size wider")
    parser.add_argument("--budget", type=seconds_of, default=3600.0, metavar="3600|50m|1h", help="default 1h")
    parser.add_argument("--steps", type=int, help="end after so many steps, if that is before the budget's end")
    parser.add_argument("--batch", type=int, help=f"canvases a step; default {BATCH}")
    parser.add_argument("--accumulate", type=int, default=1, help="parts a batch is worked off in, to save memory")
    parser.add_argument("--learning-rate", type=float, default=2e-2)
    parser.add_argument("--draws", type=int, default=1, help="corruptions of each canvas per encoder pass")
    parser.add_argument("--noise-bias", type=float, default=1.0, help="more than 1: mostly noisy canvases")
    parser.add_argument(
        "--rollouts",
        type=int,
        default=0,
        metavar="READS",
        help="learn from canvases that it decodes, of each so many steps behind an encoder pass",
    )
    pool = f"with --rollouts: canvases on their way, in batches; default {Rollouts.pool}"
    parser.add_argument("--pool", type=int, help=pool)
    parser.add_argument("--device", default="cpu", help="where to train, cuda for instance")
    precision = "of the products; default bfloat16: some CPUs are faster with the other"
    parser.add_argument("--precision", choices=PRECISIONS, default="bfloat16", help=precision)
    parser.add_argument("--workers", type=int, default=0, help="processes that make examples, where a thread is slow")
    parser.add_argument(
        "--compile", action="store_true", help="compile the layers: minutes at first, then faster steps"
    )
    parser.add_argument("--capture", action="store_true", help="on a CUDA device: the passes as graphs, no launches")
    parser.add_argument("--ema", type=float, default=0.998, help="decay of the average of the weights, per step")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"), help="where seed puzzles are kept")
    parser.add_argument("--corpora", type=Path, default=Path("runs/corpora"), help="where texts are fetched to")
    parser.add_argument("--written", type=Path, default=Path("runs/written"), help="what `recipes.nano.writer` wrote")
    _add_parts(parser)


def _add_parts(parser: argparse.ArgumentParser) -> None:
    """Which parts of a model are trained, if not all, and by what else than the mixture's canvases."""
    parser.add_argument("--experts", type=int, default=0, metavar="N", help="more of them in each layer, alone trained")
    parser.add_argument(
        "--new-from", type=int, default=0, metavar="N", help="go on with the experts from number N on alone"
    )
    parser.add_argument("--met", type=Path, metavar="NPZ", help="what new experts are kept from (`met`)")
    parser.add_argument(
        "--held", type=int, default=0, metavar="COUNT", help="sudokus a step and process that all it learns is held by"
    )
    parser.add_argument(
        "--encoder-layers",
        type=int,
        default=0,
        metavar="N",
        help="layers for the encoder alone, which alone are trained",
    )
    kept = "of --encoder-layers: --texts are learnt as the layers of before foretell them, as far as these are right"
    parser.add_argument("--kept", action="store_true", help=kept)
    muon = "of --held: matrices that all tokens share learn by Muon at this share of the rate, not by Adam at a sixth"
    parser.add_argument("--muon", type=float, default=0.0, metavar="SHARE", help=muon)
    parser.add_argument("--before", type=Path, metavar="DIR", help="of --held: the model it is held to, if not --init")
    parser.add_argument(
        "--texts", type=int, default=0, help="examples of talk a step and process for the encoder alone"
    )
    parser.add_argument(
        "--pages", type=int, default=0, metavar="COUNT", help="pages of sums a step and process for the encoder alone"
    )


def run(options: argparse.Namespace) -> None:
    """Raises `InputError` for options that do not go together."""
    if options.pool is not None and not (options.rollouts and options.pool > 0):
        raise InputError("--pool is a number of at least 1, and of --rollouts: leave it out, or give both")
    if min(options.experts, options.new_from, options.held, options.pages) < 0 or (options.experts and options.grow):
        raise InputError(
            "--experts, --new-from, --held and --pages are numbers of at least 1, the first three of a model that "
            "--grow leaves as it is"
        )
    if options.before is not None and not options.held:
        raise InputError("--before goes with --held: give both, or leave it out")
    if options.muon < 0 or (options.muon and not options.held):
        raise InputError("--muon is a share above 0, and goes with --held: give both, or leave it out")
    if options.held and not (options.new_from and options.met is None):
        raise InputError("--held goes with --new-from, and takes the place of --met: leave that out")
    if not options.held and (options.experts > 0) + (options.new_from > 0) != (options.met is not None):
        raise InputError("--met goes with one of --experts and --new-from: give two of them, or leave them out")
    if options.texts and options.recipe not in SHARES:
        raise InputError(f"--texts goes with the recipes {' and '.join(SHARES)}: leave it out, or choose one of them")
    if (options.met is not None or options.held) and options.init is None:
        raise InputError("new experts are those of a model that has learnt something: give it with --init")
    if options.encoder_layers:
        _without_canvases(options)
    if options.kept and not (options.encoder_layers and options.texts):
        raise InputError("--kept goes with --encoder-layers and --texts: give all, or leave it out")
    options.batch = options.batch or BATCH
    with process_group():
        _train(options)


def _without_canvases(options: argparse.Namespace) -> None:
    """Raises `InputError` for what does not go with layers for the encoder alone."""
    if options.encoder_layers < 0 or options.init is None or not (options.texts or options.pages):
        raise InputError(
            "--encoder-layers is a number of at least 1, of a model (--init) that reads --texts or --pages"
        )
    others = ("grow", "experts", "new_from", "held", "rollouts", "batch")
    given = [name for name in others if getattr(options, name)]
    given += [name for name in ("draws", "noise_bias", "accumulate") if getattr(options, name) != 1]
    if wrong := [f"--{name.replace('_', '-')}" for name in given]:
        raise InputError(f"layers for the encoder alone learn from no canvas: leave out {' and '.join(wrong)}")


def _plain(value: Any) -> int | float | str:
    return value if isinstance(value, int | float) else str(value)


def _also(options: argparse.Namespace, model: Model, tokenizer: Any) -> Also | None:
    """What is learnt beside the mixture; the routers of new experts are set."""
    losses: list[Also] = []
    config, dirs = model.config, DataDirs(options.cache, options.corpora, options.written)
    if options.met:
        check_layers(model)
        old = options.new_from or config.num_experts - options.experts
        met = Met.load(options.met)
        talked, solved = _wanted(load_model(options.init, torch.float32), tokenizer, dirs, options.seed, old)
        if options.experts and not (options.resume and RunDirectory(options.out).load()):
            set_routers(model, met, Met.joined([talked, solved]), old, options.seed)
        # What the encoder makes of solved sudokus is not for a model to learn again that goes on with sums.
        losses.append(Apart(met, None if options.pages else solved, old, options.seed))
    if options.held:
        before = load_model(options.before or options.init, torch.float32).to(model.device)
        decoding = decoding_rules(config, tokenizer, options.recipe)
        losses.append(Held(before, sudokus(tokenizer, config, dirs), decoding, options.held, options.seed))
    if options.texts:
        told = apart_texts(tokenizer, config, dirs, options.recipe)
        how = as_before if options.kept else encoder_loss
        losses.append(Texts(told, config, options.texts, options.seed, loss=how))
    if options.pages:
        losses.append(Pages(tokenizer, options.pages, options.seed))
    return (lambda model, step: torch.stack([one(model, step) for one in losses]).sum()) if losses else None


def _wanted(model: Model, tokenizer: Any, dirs: DataDirs, seed: int, old: int) -> tuple[Met, Met]:
    """What routers read while the encoder reads talk, and solved sudokus: it is to learn how little it knows of
    them."""
    rng = np.random.default_rng(seed)
    talked = RECIPES["talk"](tokenizer, model.config, dirs).parts[0].draw(rng, TO_BE_SET, 0)
    solved = sudokus(tokenizer, model.config, dirs)(rng, TO_BE_SET // 8, 0)
    return met_reading(model, talked, old=old), met_reading(model, solved, answers=True, old=old)


def _train(options: argparse.Namespace) -> None:
    from transformers import AutoTokenizer

    import diffusiongemma as dg

    tokenizer = AutoTokenizer.from_pretrained(NANO)
    how = options.device, options.grow, options.experts, options.new_from, options.held > 0, options.muon
    model = new_model(tokenizer, options.seed, options.init, *how)
    if options.encoder_layers:
        model = train_encoder_layers(model, options.encoder_layers, options.seed).to(model.device)
        if model.device.type == "cpu":
            read_quickly(model, dg.load(options.init, quantize="int8").network)
    write_configs(model.config, tokenizer, options.out, options.recipe)
    dirs = DataDirs(options.cache, options.corpora, options.written)
    mixture = RECIPES[options.recipe](tokenizer, model.config, dirs)
    train_config = TrainConfig(
        steps=options.steps, budget=options.budget, learning_rate=options.learning_rate, optimiser="muon",
        ema=options.ema, accumulate=options.accumulate, precision=options.precision, seed=options.seed,
        compile=options.compile, capture=options.capture, workers=options.workers, shard=False,
    )  # fmt: skip
    objective = Objective(
        encoder_weight=float(mixture.encoder_every), draws=options.draws, noise_bias=options.noise_bias
    )
    decoding = decoding_rules(model.config, tokenizer, options.recipe)
    rollouts = Rollouts(decoding, options.rollouts, options.pool or Rollouts.pool) if options.rollouts else None
    if rank() == 0:
        print(f"{sum(p.numel() for p in model.parameters()):,} parameters", flush=True)
    means = Means(every=25)
    train(
        model,
        no_canvases if options.encoder_layers else mixture.batches(model.config, options.batch, options.seed),
        Run(train_config, objective, rollouts),
        directory=RunDirectory(options.out),
        resume=options.resume,
        settings={name: _plain(getattr(options, name)) for name in SETTINGS},
        hooks=Hooks(
            report=lambda record: means.add(record, lambda mean: print(plain_line(mean), flush=True)),
            export=lambda trained: save_model(trained, options.out, source=options.out, dtype=torch.bfloat16),
        ),
        also=_also(options, model, tokenizer),
    )
