"""The subcommands, by name: the module of each is imported when it is called, its first line of help is said here."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand


@dataclass(frozen=True)
class Command:
    """`place` is MODULE:FUNCTION within `cli`, or MODULE:app for a group of commands."""

    place: str
    help: str

    def load(self) -> Any:
        module, _, name = self.place.partition(":")
        return getattr(import_module(f"diffusiongemma.cli.{module}"), name)


COMMANDS = {
    "run": Command("run:run", "Generate from one prompt."),
    "chat": Command("chat:chat", "Talk with the model; /help lists what can be typed."),
    "sudoku": Command("sudoku:sudoku", "Solve sudoku puzzles and say whether the answer is right."),
    "infill": Command("infill:infill", "Fill the holes of a text; the rest of it comes back as it is, byte for byte."),
    "edit": Command("edit:edit", "Change a text, starting from the text itself."),
    "decide": Command("decide:decide", "Answer typed questions about a text with probabilities."),
    "serve": Command(
        "serve:serve", "Serve a model: OpenAI's API, the streaming protocol for drafts, and a page to watch it."
    ),
    "deploy": Command("deploy:deploy", "Serve a model on a cluster of Ray."),
    "batch": Command(
        "batch:batch",
        "Answer a file of requests in OpenAI's batch format; the same command goes on where it was stopped.",
    ),
    "replay": Command("replay:replay", "Play a trace."),
    "train": Command("train:app", "Fine-tune a model."),
    "quantize": Command("quantize:quantize", "Write a model's weights in few bits."),
    "export": Command(
        "export:export", "Write a model in another program's format; an adapter is merged into its base model."
    ),
    "eval": Command("eval:evaluate", "Measure a model on questions that it was not trained on."),
    "list": Command(
        "models:list_models", "List the models on this machine: those of the package and those fetched from the hub."
    ),
    "pull": Command("models:pull", "Fetch a model from the Hugging Face hub, to be used without the network."),
    "show": Command("models:show", "Say what a model is, without loading it. One of the hub must have been fetched."),
    "rm": Command("models:rm", "Delete a model that was fetched from the hub."),
    "doctor": Command("doctor:doctor", "Check this installation and try a model."),
}


class PanelledCommand(TyperCommand):
    """Help in plain text, options under the headings of their panels. rich takes longer to import than all else."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        panels: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            if (record := parameter.get_help_record(ctx)) is not None:
                usual = "Arguments" if parameter.param_type_name == "argument" else "Options"
                panels.setdefault(getattr(parameter, "rich_help_panel", None) or usual, []).append(record)
        for panel, records in panels.items():
            with formatter.section(panel):
                formatter.write_dl(records)


def register(app: typer.Typer, words: Iterable[str] | None) -> None:
    """Add all commands; those that `words` do not call with no more than their line of help."""
    whole = words is None or any(name.endswith("GEMMA_COMPLETE") for name in os.environ)
    called = next((word for word in words or () if word in COMMANDS), None)
    for name, command in COMMANDS.items():
        loaded = command.load() if whole or name == called else None
        if isinstance(loaded, typer.Typer):
            app.add_typer(loaded, name=name)
        elif loaded is not None:
            app.command(name, cls=PanelledCommand)(loaded)
        else:
            app.command(name, help=command.help)(_not_called)


def _not_called() -> None:
    raise AssertionError("only the command that is called is loaded")
