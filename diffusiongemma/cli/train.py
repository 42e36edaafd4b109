"""`diffusiongemma train`: fine-tune a model, on sudoku or on your own conversations."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diffusiongemma.errors import InputError

if TYPE_CHECKING:
    from diffusiongemma.train.finetune import FineTune, Options
    from diffusiongemma.train.objective import Batches
    from diffusiongemma.train.trainer import Evaluate

app = typer.Typer(
    help="Fine-tune a model.", no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"]}
)


@dataclass(frozen=True)
class Common:
    """The options of both commands; all other settings go by name, see `train.run`."""

    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the result goes, ready for --model.")]
    model: Annotated[str, typer.Option(metavar="nano|PATH|HUB_ID", help="The model to start from.")] = "nano"
    steps: Annotated[int | None, typer.Option(metavar="N", help="End after N steps.")] = None
    budget: Annotated[str | None, typer.Option(metavar="50m|3600s|1h", help="End after this time.")] = None
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out, if there is one.")] = False
    lora: Annotated[
        int | None,
        typer.Option(
            metavar="RANK",
            help="Train adapters of this rank, 0 for all weights. (default: 0 for small models, 8 for large ones)",
        ),
    ] = None
    processes: Annotated[
        int, typer.Option(metavar="N", help="Train in N processes, each on its share of the cores.")
    ] = 1
    compile: Annotated[
        bool,
        typer.Option("--compile", help="Compile the layers. The first steps take minutes, the others are faster."),
    ] = False
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda|…", help="Where to compute.")] = "auto"
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Any other setting, such as train.learning_rate=1e-3. Repeat it for more. "
            "--set help lists the names; docs/training.md explains them.",
        ),
    ] = None


def _command(function: Callable[..., None]) -> Callable[..., None]:
    """`function(common, …)` as a command that has the fields of `Common` as options, behind its own."""
    own, shared = (inspect.signature(each, eval_str=True).parameters for each in (function, Common))
    options = [p.replace(kind=p.KEYWORD_ONLY) for name, p in [*own.items(), *shared.items()] if name != "common"]

    def command(**given_options: Any) -> None:
        common = Common(**{name: given_options.pop(name) for name in shared})
        function(common, **given_options)

    command.__name__, command.__doc__ = function.__name__, function.__doc__
    command.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in options}
    return app.command()(command)


@_command
def sudoku(common: Common) -> None:
    """Teach a model sudoku, on puzzles made by symmetries of seed puzzles.

    Small models train whole for 55 minutes; the released 26B model trains LoRA of rank 8 for 2,000 steps. Afterwards:
    diffusiongemma eval sudoku --model DIR
    """
    options = _options(common)
    _spread(common.processes)
    from diffusiongemma.tasks.sudoku import SeedBank
    from diffusiongemma.train.finetune import SUDOKU_LARGE, SUDOKU_SMALL, FineTune
    from diffusiongemma.train.parallel import process_group, rank, world_size
    from diffusiongemma.train.sudoku import solved_share, sudoku_mixture
    from diffusiongemma.weights.skills import add_skill

    with process_group():
        run = FineTune.prepare(options, SUDOKU_LARGE, SUDOKU_SMALL)
        config, data, train = run.model.config, run.settings.data, run.settings.train
        seeds = SeedBank.load_or_build(_user_cache()).train
        mixture = sudoku_mixture(run.base.tokenizer, config, seeds, encoder_every=data.encoder_every)
        whole = world_size() == 1 or not train.shard  # a process that holds parts of a model cannot ask it
        evaluate = solved_share(run.base) if whole else None
        _train(run, mixture.batches(config, data.batch, train.seed), {"task": "sudoku"}, evaluate)
        if rank() == 0:
            add_skill(options.out, "sudoku")


@_command
def sft(
    common: Common,
    data: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            help='JSON lines: {"messages": [{"role": …, "content": …}, …]} or {"prompt": …, "response": …}.',
        ),
    ],
    skip_bad_lines: Annotated[
        bool, typer.Option("--skip-bad-lines", help="Train on the other lines instead of stopping.")
    ] = False,
) -> None:
    """Fine-tune a model on your own conversations.

    The file is checked first. 5 % of the lines, at most 64, are held out to keep the best weights by, if there are 40.
    Without --steps or --budget: three times through the file, at least 200 and at most 2,000 steps.
    """
    options = _options(common)
    _spread(common.processes)
    from diffusiongemma.train import sft as chats
    from diffusiongemma.train.chats import check
    from diffusiongemma.train.finetune import CHATS_LARGE, CHATS_SMALL, FineTune
    from diffusiongemma.train.parallel import process_group

    with process_group():
        file, bad = check(data)
        _tell(bad, len(file), data, skip_bad_lines)
        seed = options.changes.get("train.seed", CHATS_SMALL.train.seed)
        lines, held_out = chats.split(len(file), seed)
        run = FineTune.prepare(options, *chats.sized(len(lines), options.changes, CHATS_LARGE, CHATS_SMALL))
        limit = chats.token_limit(run.model.config, run.settings.data.max_length)
        about = dict(tokenizer=run.base.tokenizer, config=run.model.config, limit=limit, seed=seed)
        batches = chats.chat_batches(file, lines, data=run.settings.data, **about)
        kept_apart = chats.held_out_batches(file, held_out, **about)
        objective, precision = run.settings.objective, run.settings.train.precision
        evaluate = chats.held_out_loss(kept_apart, objective, precision, seed) if kept_apart else None
        facts = {"data": file.digest, "max_length": limit, "skip_bad_lines": skip_bad_lines}
        _train(run, batches, facts, evaluate)


def _options(common: Common) -> Options:
    """What the options shared by both commands ask for. Raises `InputError`."""
    from diffusiongemma.train.finetune import Options
    from diffusiongemma.train.progress import seconds_of
    from diffusiongemma.train.run import parse_changes

    for name, least in (("steps", 1), ("processes", 1), ("lora", 0)):
        value = getattr(common, name)
        if value is not None and value < least:
            raise InputError(f"give at least {least}", option=name, got=value)
    changes = parse_changes(common.changes or [])
    if common.steps is not None:
        changes["train.steps"] = common.steps
    if common.budget is not None:
        changes["train.budget"] = seconds_of(common.budget)
    if common.compile:
        changes["train.compile"] = True
    if common.lora is not None:
        changes |= {"lora.rank": common.lora} if common.lora else {"lora": None}
    return Options(common.model, common.out, changes, common.resume, common.device)


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


def _train(run: FineTune, batches: Batches, facts: dict[str, Any], evaluate: Evaluate | None) -> None:
    from contextlib import nullcontext

    from diffusiongemma.cli.running import say
    from diffusiongemma.train.parallel import rank
    from diffusiongemma.train.progress import Bar
    from diffusiongemma.train.trainer import Hooks

    bar = Bar() if rank() == 0 else None
    try:
        with bar or nullcontext():
            run.run(batches, facts, Hooks(report=bar.add if bar else lambda record: None, evaluate=evaluate))
    except KeyboardInterrupt:
        say("stopped: the same command with --resume goes on")
        raise
    if rank() == 0:
        _show_loss(run)
        say(f"the model is in {run.options.out}: diffusiongemma run --model {run.options.out}", "")


def _show_loss(run: FineTune) -> None:
    from diffusiongemma.cli.running import say
    from diffusiongemma.train.checkpointing import RunDirectory
    from diffusiongemma.train.plot import curves, save_plot, sparkline

    directory = RunDirectory(run.options.out)
    records = list(directory.records())
    plain = "utf" not in (sys.stderr.encoding or "").lower()
    for name, points in curves(records).items():
        values = [value for _, value in points]
        say(f"{name:>13} {values[0]:.3f} {sparkline(values, plain=plain)} {values[-1]:.3f}", "")
    path = directory.root / "loss.png"
    if save_plot(records, path):
        say(f"plotted in {path}")


def _user_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "diffusiongemma"
