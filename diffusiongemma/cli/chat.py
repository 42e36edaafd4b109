"""`diffusiongemma chat`: a conversation in the terminal."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffusiongemma.cli import options as given
from diffusiongemma.cli.configuration import cache_path
from diffusiongemma.cli.running import check_watching, checked_text, choose_view, open_model, say, summary
from diffusiongemma.errors import InputError, UserError
from diffusiongemma.options import OF_DECODING

if TYPE_CHECKING:
    from diffusiongemma.api import DiffusionGemma
    from diffusiongemma.engine.session import Session
    from diffusiongemma.events import Result

BLOCK = '"""'  # opens and closes a message of several lines


@given.takes("chat")
def chat(
    model: given.Model = "nano",
    *,
    loading: given.Loading,
    system: given.System = None,
    think: given.Think = False,
    options: given.Options,
    no_show_schema: given.NoShowSchema = False,
    watch: given.Watch = False,
    delay: given.Delay = None,
) -> None:
    """Talk with the model; /help lists what can be typed.

    Ctrl-C stops an answer, Ctrl-D leaves.
    """
    check_watching(True, delay)  # `/watch on` may come
    if system is not None:
        checked_text(system, "system message")
    loaded = open_model(model, loading)
    if no_show_schema:
        options["show_schema"] = False
    Chat(loaded, system, options, think, watch, delay).run()


@dataclass
class Chat:
    """The conversation and what can be switched during it."""

    model: DiffusionGemma
    system: str | None
    options: dict[str, Any]
    think: bool = False
    watch: bool = False
    delay: float | None = None
    done: bool = field(default=False, init=False)
    lines: Lines = field(default_factory=lambda: Lines(), init=False)

    def run(self) -> None:
        if sys.stdin is None:
            raise InputError("stdin is closed: there is nobody to talk with")
        self._reset("")
        if sys.stdin.isatty():
            if self.model.about:
                say(f"{self.model.about} It answers each message by itself: it was not taught to converse.")
            say("/help for commands, Ctrl-C stops an answer, Ctrl-D leaves")
        while not self.done:
            try:
                message = self.lines.message()
            except KeyboardInterrupt:
                if not sys.stdin.isatty():
                    raise
                say("\nCtrl-D or /quit leaves")
                continue
            if message is None:
                return
            self.take(message)

    def take(self, message: str) -> None:
        """Obey a command or answer a message. A mistake is told and changes nothing."""
        try:
            if message.startswith("/"):
                self._obey(message)
            elif message.strip():
                self._answer(checked_text(message, "message"))
        except UserError as error:
            say(str(error), "red")

    def _answer(self, message: str) -> None:
        from diffusiongemma.events import Finished

        config = self.model.generation.with_options(**{k: v for k, v in self.options.items() if k in OF_DECODING})
        view = choose_view(self.model, config, watch=self.watch, thoughts=self.think, delay=self.delay)
        turn, result = self._turn(), None
        try:
            with view, typing_unseen():
                for event in turn.stream(message, think=self.think, **self.options):
                    view.show(event)
                    if isinstance(event, Finished):
                        result = event.result
        except KeyboardInterrupt:
            view.interrupt()
            say("interrupted: this turn is not part of the conversation")
            return
        assert result is not None
        if turn is not self.session:
            self.session.messages += turn.messages[-2:]
        view.finish(result)
        say(turn_summary(replace(result, seconds=result.seconds - view.paused), view.paused))

    def _turn(self) -> Session:
        """What answers the next message: by itself, by a model that was taught skills and not to converse."""
        return self.model.chat(self.system) if self.model.skills else self.session

    # Commands.

    def _obey(self, line: str) -> None:
        name, _, argument = line.strip().partition(" ")
        commands: dict[str, Callable[[str], None]] = {
            "/help": self._help,
            "/quit": self._quit,
            "/reset": self._reset,
            "/think": self._set_think,
            "/watch": self._set_watch,
            "/seed": self._set_seed,
            "/save": self._save,
            "/load": self._load,
            "/exit": self._quit,
        }
        if name not in commands:
            raise InputError(f"no command {name}: choose {', '.join(commands)}")
        commands[name](argument.strip())

    def _help(self, _: str) -> None:
        say(
            "/reset         forget the conversation\n"
            "/think on|off  let the model think before it answers\n"
            "/watch on|off  show the canvas settling\n"
            "/seed N        the same seed gives the same answers\n"
            "/save FILE     keep the conversation\n"
            "/load FILE     go on with one that was kept\n"
            "/quit, /exit   leave (or Ctrl-D)\n"
            f"{BLOCK}            starts and ends a message of several lines; what is pasted may have several anyway"
        )

    def _quit(self, _: str) -> None:
        self.done = True

    def _reset(self, _: str) -> None:
        self.session = self.model.chat(self.system)

    def _save(self, argument: str) -> None:
        if not argument:
            raise InputError("/save takes a file, such as /save talk.json")
        from diffusiongemma.files import write_whole

        try:
            write_whole(Path(argument).expanduser(), json.dumps(self.session.messages, ensure_ascii=False, indent=1))
        except OSError as error:
            raise InputError(f"cannot write {argument}: {error.strerror}") from None
        say(f"{len(self.session.messages)} messages in {argument}")

    def _load(self, argument: str) -> None:
        """Messages as `/save` writes them: those of the chat API."""
        from diffusiongemma.chat.messages import canonical

        try:
            messages = canonical(json.loads(Path(argument).expanduser().read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise InputError(f"cannot read a conversation from {argument or 'nothing'}: {error}") from None
        self._reset("")
        self.session.messages = messages
        say(f"{len(messages)} messages from {argument}")

    def _set_think(self, argument: str) -> None:
        self.think = _switch("/think", argument)

    def _set_watch(self, argument: str) -> None:
        self.watch = _switch("/watch", argument)

    def _set_seed(self, argument: str) -> None:
        if argument != "random" and not argument.isdecimal():
            raise InputError("/seed takes a whole number, such as /seed 7, or random")
        seed = given.seed_of(argument)
        self.model.generation.with_options(seed=seed)
        self.options["seed"] = seed


class Lines:
    """What is typed, or piped in. On a terminal with editing, a history, and pastes of several lines."""

    def __init__(self) -> None:
        self._session: Any = None

    def message(self) -> str | None:
        """The next message or command, None at the end of the input."""
        line = self._line("> ")
        if line is None or not line.startswith(BLOCK):
            return line
        lines = [line.removeprefix(BLOCK)]
        while not lines[-1].rstrip().endswith(BLOCK):
            following = self._line(". ")
            if following is None:
                break
            lines.append(following)
        return "\n".join(lines).rstrip().removesuffix(BLOCK).strip("\n")

    def _line(self, prompt: str) -> str | None:
        try:
            if sys.stdin.isatty():
                return self._typed(prompt)
            line = sys.stdin.readline()
            return line.removesuffix("\n") if line else None
        except EOFError:
            say("")
            return None
        except UnicodeDecodeError:
            raise InputError("stdin is not UTF-8 text: convert it first") from None

    def _typed(self, prompt: str) -> str:
        if not sys.stdout.isatty():
            return input()
        self._session = self._session or _prompt_session()
        return str(self._session.prompt(prompt))


def _prompt_session() -> Any:
    # Not every terminal answers where its cursor is, and asking one that does not takes a second.
    os.environ.setdefault("PROMPT_TOOLKIT_NO_CPR", "1")
    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    path = cache_path() / "chat_history"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    except OSError:
        return PromptSession(history=InMemoryHistory())
    return PromptSession(history=FileHistory(str(path)))


@contextmanager
def typing_unseen() -> Iterator[None]:
    """What is typed while an answer is drawn goes to the next prompt, not over the picture."""
    try:
        import termios

        number = sys.stdin.fileno()
        before = termios.tcgetattr(number)
    except (ImportError, OSError, ValueError, AttributeError):  # no terminal, or none of that kind
        yield
        return
    except termios.error:
        yield
        return
    silent = [*before[:3], before[3] & ~termios.ECHO, *before[4:]]
    termios.tcsetattr(number, termios.TCSADRAIN, silent)
    try:
        yield
    finally:
        termios.tcsetattr(number, termios.TCSADRAIN, before)


def turn_summary(result: Result, paused: float) -> str:
    reused = f"{result.cached_tokens} of {result.prompt_tokens} prompt tokens reused"
    return f"{reused} · {summary(result, paused)}"


def _switch(command: str, argument: str) -> bool:
    if argument not in ("on", "off"):
        raise InputError(f"{command} takes on or off")
    return argument == "on"
