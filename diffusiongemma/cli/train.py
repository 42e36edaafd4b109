"""`diffusiongemma train`: fine-tune a model, on sudoku or on your own conversations."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diffusiongemma.cli import options as given
from diffusiongemma.cli.train_options import (
    Accumulate,
    Base,
    BatchSize,
    Budget,
    Compile,
    Draws,
    EncoderEvery,
    EvaluateEvery,
    GradCheckpoint,
    LearningRate,
    Lora,
    LoraExperts,
    NoiseBias,
    Out,
    Precision,
    Processes,
    Resume,
    Rollouts,
    RolloutsAfter,
    Seed,
    Steps,
)
from diffusiongemma.errors import InputError

if TYPE_CHECKING:
    from diffusiongemma.train.finetune import FineTune, Options
    from diffusiongemma.train.objective import Batches
    from diffusiongemma.train.trainer import Evaluate

app = typer.Typer(
    help="Fine-tune a model.", no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"]}
)


@app.command()
def sudoku(
    out: Out,
    model: Base = "nano",
    lora: Lora = None,
    lora_experts: LoraExperts = False,
    steps: Steps = None,
    budget: Budget = None,
    resume: Resume = False,
    batch: BatchSize = None,
    learning_rate: LearningRate = None,
    seed: Seed = 0,
    evaluate_every: EvaluateEvery = None,
    processes: Processes = 1,
    accumulate: Accumulate = 1,
    grad_checkpoint: GradCheckpoint = None,
    precision: Precision = "auto",
    compile: Compile = False,
    draws: Draws = None,
    noise_bias: NoiseBias = None,
    encoder_every: EncoderEvery = None,
    rollouts: Rollouts = None,
    rollouts_after: RolloutsAfter = None,
    device: given.Device = "auto",
    cache: Annotated[Path | None, typer.Option(metavar="DIR", help="Where seed puzzles are kept.")] = None,
) -> None:
    """Teach a model sudoku, on puzzles made by symmetries of seed puzzles.

    Small models train whole for 55 minutes; the released 26B model trains LoRA of rank 8 for 2,000 steps. Afterwards:
    diffusiongemma eval sudoku --model DIR
    """
    from diffusiongemma.train.finetune import SUDOKU_LARGE, SUDOKU_SMALL, FineTune
    from diffusiongemma.train.parallel import together
    from diffusiongemma.train.recipes import Places, sudoku_recipe

    options = _options(locals())
    _spread(processes)
    with together():
        run = FineTune.prepare(options, SUDOKU_LARGE, SUDOKU_SMALL)
        places = Places(cache or _user_cache())
        mixture = sudoku_recipe(run.base.tokenizer, run.model.config, places, encoder_every=run.encoder_every)
        batches = mixture.batches(run.model.config, run.batch, seed)
        _train(run, batches, {"task": "sudoku"}, _solving(run))


@app.command()
def sft(
    data: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            help='JSON lines: {"messages": [{"role": …, "content": …}, …]} or {"prompt": …, "response": …}.',
        ),
    ],
    out: Out,
    model: Base = "nano",
    lora: Lora = None,
    lora_experts: LoraExperts = False,
    steps: Steps = None,
    budget: Budget = None,
    resume: Resume = False,
    batch: BatchSize = None,
    learning_rate: LearningRate = None,
    seed: Seed = 0,
    evaluate_every: EvaluateEvery = None,
    max_length: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Tokens of a conversation; longer ones are cut. (default: 2048, or what the model takes)",
        ),
    ] = None,
    skip_bad_lines: Annotated[
        bool, typer.Option("--skip-bad-lines", help="Train on the other lines instead of stopping.")
    ] = False,
    processes: Processes = 1,
    accumulate: Accumulate = 1,
    grad_checkpoint: GradCheckpoint = None,
    precision: Precision = "auto",
    compile: Compile = False,
    draws: Draws = None,
    noise_bias: NoiseBias = None,
    device: given.Device = "auto",
) -> None:
    """Fine-tune a model on your own conversations.

    The file is checked first. 5 % of the lines, at most 64, are held out to keep the best weights by, if there are 40.
    Without --steps or --budget: three times through the file, at least 200 and at most 2,000 steps.
    """
    from diffusiongemma.train import sft as chats
    from diffusiongemma.train.chats import check
    from diffusiongemma.train.finetune import CHATS_LARGE, CHATS_SMALL, FineTune
    from diffusiongemma.train.parallel import together

    options = _options(locals())
    _spread(processes)
    with together():
        file, bad = check(data)
        _tell(bad, len(file), data, skip_bad_lines)
        lines, held_out = chats.split(len(file), seed)
        run = FineTune.prepare(options, *chats.sized(len(lines), options, CHATS_LARGE, CHATS_SMALL))
        limit = chats.token_limit(run.model.config, max_length)
        about = dict(tokenizer=run.base.tokenizer, config=run.model.config, limit=limit, seed=seed)
        batches = chats.chat_batches(file, lines, size=run.batch, **about)
        kept_apart = chats.held_out_batches(file, held_out, **about)
        evaluate = chats.held_out_loss(kept_apart, run.objective, run.config.precision, seed) if kept_apart else None
        settings = {"data": file.digest, "max_length": limit, "skip_bad_lines": skip_bad_lines}
        _train(run, batches, settings, evaluate)


def _options(given_options: dict[str, Any]) -> Options:
    """The options that both commands share. Raises `InputError`."""
    from diffusiongemma.train.finetune import Options
    from diffusiongemma.train.progress import seconds_of

    for name in ("batch", "steps", "processes"):
        if given_options[name] is not None and given_options[name] < 1:
            raise InputError(f"{name} is {given_options[name]}: give at least 1")
    if given_options["lora"] is not None and given_options["lora"] < 0:
        raise InputError(f"lora is {given_options['lora']}: give a rank, or 0 for all weights")
    if (given_options.get("encoder_every") or 0) < 0:
        raise InputError(f"encoder-every is {given_options['encoder_every']}: give a number of steps, or 0 for never")
    if (given_options.get("rollouts") or 0) < 0:
        raise InputError(f"rollouts is {given_options['rollouts']}: give a number of steps, or 0 for none")
    if given_options["precision"] not in ("auto", "bfloat16", "float32"):
        raise InputError(f"no precision {given_options['precision']!r}: choose auto, bfloat16 or float32")
    if not 0 <= given_options["seed"] < 2**63:
        raise InputError(f"seed is {given_options['seed']}: give a whole number from 0 to 2**63 - 1")
    budget = seconds_of(given_options["budget"]) if given_options["budget"] is not None else None
    names = Options.__dataclass_fields__.keys() & given_options.keys()
    chosen = {name: given_options[name] for name in names} | {"budget": budget}
    return Options(**chosen)


def _spread(processes: int) -> None:
    """Have several processes do this command's work, and exit with their code."""
    from diffusiongemma.train.launch import launched, run_processes

    if processes > 1 and not launched():
        raise typer.Exit(run_processes(processes, sys.argv[1:]))


def _tell(bad: Any, usable: int, data: Path, skip: bool) -> None:
    """What is wrong with the file. Raises `InputError` unless bad lines are to be skipped."""
    from diffusiongemma.cli.running import say
    from diffusiongemma.train.parallel import rank

    if not bad.count:
        return
    if rank() == 0:
        say(f"{data}:\n{bad}", "")
    if not skip or not usable:
        advice = "mend them, or leave them out with --skip-bad-lines" if usable else "see above"
        raise InputError(f"{bad.count:,} of {bad.count + usable:,} lines of {data} cannot be used: {advice}")


def _solving(run: FineTune) -> Evaluate | None:
    """Held-out puzzles of 30 to 45 givens to keep the best weights by; each process asks its share of them.

    None where processes hold parts of a model.
    """
    from diffusiongemma.evaluation import Setting, ask, sudoku_suite, tally
    from diffusiongemma.train.parallel import LossModule, rank, summed, world_size
    from diffusiongemma.train.trainer import Evaluation

    suite, setting = sudoku_suite(128, seed=1, givens="30-45"), Setting("diffusion")
    mine = replace(suite, questions=suite.questions[rank() :: world_size()])

    def evaluate(module: LossModule) -> Evaluation:
        measured = tally(mine, setting, ask(run.base, mine, setting, seed=1))
        means, share = measured.overall.means, len(mine.questions) / len(suite.questions)
        figures = {name: means[name] for name in ("solved", "cell_accuracy")}
        figures["steps_per_canvas"] = measured.cost.steps_per_canvas or 0.0
        whole = summed({name: figure * share for name, figure in figures.items()})
        return Evaluation(whole["solved"], whole)

    return evaluate if world_size() == 1 or not run.config.shard else None


def _train(run: FineTune, batches: Batches, settings: dict[str, Any], evaluate: Evaluate | None) -> None:
    from contextlib import nullcontext

    from diffusiongemma.cli.running import say
    from diffusiongemma.train.parallel import rank
    from diffusiongemma.train.progress import Bar

    bar = Bar() if rank() == 0 else None
    try:
        with bar or nullcontext():
            run.run(batches, settings, bar.add if bar else lambda record: None, evaluate)
    except KeyboardInterrupt:
        say("stopped: the same command with --resume goes on")
        raise
    if rank() == 0:
        _show_loss(run)
        say(f"the model is in {run.options.out}: diffusiongemma run --model {run.options.out}", "")


def _show_loss(run: FineTune) -> None:
    from diffusiongemma.cli.running import say
    from diffusiongemma.train.plot import curves, save_plot, sparkline

    records = list(run.directory.records())
    plain = "utf" not in (sys.stderr.encoding or "").lower()
    for name, points in curves(records).items():
        values = [value for _, value in points]
        say(f"{name:>13} {values[0]:.3f} {sparkline(values, plain=plain)} {values[-1]:.3f}", "")
    path = run.directory.root / "loss.png"
    if save_plot(records, path):
        say(f"plotted in {path}")


def _user_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "diffusiongemma"
