"""`diffusiongemma batch`: a file of requests answered."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diffusiongemma.cli import options as given
from diffusiongemma.cli.running import open_model, say
from diffusiongemma.cli.serve import (
    LIMITS,
    REPLICAS,
    Aliases,
    Loras,
    Memory,
    Ray,
    ReplicaCpus,
    ReplicaGpus,
    settings_of,
)
from diffusiongemma.errors import InputError

if TYPE_CHECKING:
    from diffusiongemma.cluster.fleet import Fleet
    from diffusiongemma.serve.batch.answers import AnswerFile
    from diffusiongemma.serve.batch.requests import RequestFile
    from diffusiongemma.serve.settings import Settings

    Answerer = Callable[[RequestFile, AnswerFile, Callable[[], None]], None]

UNANSWERED = 1  # exit code where a request has no answer
CHAT = "/v1/chat/completions"
SHOWN = 5  # bad lines that are told
WIDE = 2**30  # no limit is meant: all of the file waits for its turn

Asked = Annotated[Path, typer.Argument(metavar="REQUESTS", help="JSON lines: custom_id, method, url, body.")]
Answers = Annotated[Path, typer.Argument(metavar="ANSWERS", help="Where answers go. If some are there, it goes on.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad-lines", help="Leave lines out that are no requests.")]
Chats = Annotated[
    Path | None,
    typer.Option("--chats", metavar="FILE", help="Also write the conversations with their answers, for `train sft`."),
]
AtOnce = Annotated[int, typer.Option(help="Requests computed together.", rich_help_panel=LIMITS)]


EngineCount = Annotated[
    str | None, typer.Option("--replicas", metavar="N|LEAST-MOST", help="With --ray: so many engines. (default: 1)",
                             rich_help_panel=REPLICAS)
]  # fmt: skip


@given.takes(None)
def batch(
    requests: Asked,
    answers: Answers,
    model: given.Model = "nano",
    *,
    skip_bad_lines: SkipBad = False,
    chats: Chats = None,
    alias: Aliases = None,
    lora: Loras = None,
    max_requests: AtOnce = 16,
    memory: Memory = None,
    ray: Ray = None,
    replicas: EngineCount = None,
    replica_cpus: ReplicaCpus = None,
    replica_gpus: ReplicaGpus = None,
    quiet: given.Quiet = False,
    loading: given.Loading,
) -> None:
    """Answer a file of requests in OpenAI's batch format; the same command goes on where it was stopped."""
    from diffusiongemma.serve.batch.requests import RequestFile

    settings = settings_of(model, alias, lora, memory, max_requests=max_requests, max_queue=WIDE, max_tokens=WIDE)
    if requests.resolve() == answers.resolve():
        raise InputError(f"{answers} holds the requests: name another file for the answers")
    if chats is not None and chats.resolve() in (requests.resolve(), answers.resolve()):
        raise InputError(f"{chats} holds requests or answers: name another file for the conversations")
    asked = RequestFile(requests)
    _tell_bad_lines(asked, skip_bad_lines)
    answering = _here(model, loading, settings)
    if ray is not None:
        from diffusiongemma.cli.deploy import fleet_here

        fleet = fleet_here(model, loading, settings, replicas or "1", replica_cpus, replica_gpus)
        answering = _on_ray(fleet, ray)
    elif (replicas, replica_cpus, replica_gpus) != (None, None, None):
        raise InputError("engines are counted on a cluster: add `ray`, or leave the options of replicas out")
    refused = _run(answering, asked, answers, chats, quiet)
    if refused:
        raise typer.Exit(UNANSWERED)


def _run(answering: Answerer, asked: RequestFile, path: Path, chats: Path | None, quiet: bool) -> int:
    """The number of requests that were not answered with 200."""
    from diffusiongemma.serve.batch.answers import AnswerFile

    with AnswerFile(path, asked) as answers:
        if wanted := answers.unanswered:
            with Watched(len(asked.places), len(wanted), quiet) as watched:
                answering(asked, answers, watched.step)
        if chats is not None:
            _write_chats(chats, asked, answers, quiet)
        answers.put_in_order()
    return _sum_up(asked, answers, quiet)


def _write_chats(path: Path, asked: RequestFile, answers: AnswerFile, quiet: bool) -> None:
    from diffusiongemma.serve.batch.answers import succeeded
    from diffusiongemma.train.answered import write_chats

    requests = asked.read([place for place in asked.places if place.custom_id in answers.answered])
    pairs = zip(requests, answers.read(), strict=True)
    written = write_chats(path, ((q.body, a["response"]["body"]) for q, a in pairs if q.url == CHAT and succeeded(a)))
    if not quiet:
        left = f" ({written.left_out:,} answers are cut off or nothing to learn from)" if written.left_out else ""
        say(f"{written.chats:,} conversations to train on: {path}{left}")


def _here(model: str, loading: given.Loading, settings: Settings) -> Answerer:
    def answering(asked: RequestFile, answers: AnswerFile, step: Callable[[], None]) -> None:
        from diffusiongemma.serve.batch.local import answer_file
        from diffusiongemma.serve.transport.threads import in_own_thread

        loaded = in_own_thread(lambda: open_model(model, loading, quiet=True))  # the bar is on the terminal
        if loaded.tokenizer is None:
            raise InputError(f"{model} has no tokenizer files: a batch is about text")
        answer_file(loaded, settings, asked, answers, step)

    return answering


def _on_ray(fleet: Fleet, address: str) -> Answerer:
    def answering(asked: RequestFile, answers: AnswerFile, step: Callable[[], None]) -> None:
        from diffusiongemma.cluster import connection
        from diffusiongemma.cluster.batch import answer_file

        connection.reach(address, fleet)
        answer_file(fleet, asked, answers, step)

    return answering


def _tell_bad_lines(asked: RequestFile, skipped: bool) -> None:
    """Raises `InputError` where they are not to be skipped, or nothing else is there."""
    if asked.bad and not skipped:
        first = asked.bad[0]
        more = f" (and {len(asked.bad) - 1:,} more lines)" if len(asked.bad) > 1 else ""
        raise InputError(f"{asked.path} line {first.number:,}: {first.reason}{more}; mend it or add `skip_bad_lines`")
    for line in asked.bad[:SHOWN]:
        say(f"{asked.path} line {line.number:,} left out: {line.reason}", "yellow")
    if len(asked.bad) > SHOWN:
        say(f"{len(asked.bad) - SHOWN:,} more lines left out", "yellow")
    if not asked.places:
        raise InputError(f"{asked.path} holds no request")


def _sum_up(asked: RequestFile, answers: AnswerFile, quiet: bool) -> int:
    refused = len(answers.unanswered)
    if not quiet:
        say(f"{len(asked.places) - refused:,} of {len(asked.places):,} requests answered: {answers.path}")
    if refused:
        say(f"{refused:,} were refused or failed: their lines say why; they are asked again next time", "yellow")
    return refused


class Watched:
    """A bar on stderr, shown on a terminal only."""

    def __init__(self, total: int, wanted: int, quiet: bool):
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        shown = not quiet and sys.stderr is not None and sys.stderr.isatty()
        columns = (TextColumn("answering"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.progress = Progress(*columns, console=Console(stderr=True), transient=True, disable=not shown)
        self.task = self.progress.add_task("", total=total, completed=total - wanted)

    def __enter__(self) -> Watched:
        self.progress.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.progress.stop()

    def step(self) -> None:
        self.progress.advance(self.task)
