"""`diffusiongemma chat`: a conversation in the terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from diffusiongemma.cli import options as given
from diffusiongemma.cli.running import checked_text, choose_view, open_model, say, summary
from diffusiongemma.errors import InputError, UserError
from diffusiongemma.options import OF_DECODING

if TYPE_CHECKING:
    from diffusiongemma.api import DiffusionGemma
    from diffusiongemma.events import Result

BLOCK = '"""'  # opens and closes a message of several lines


@given.takes("chat")
def chat(
    model: given.Model = "nano",
    device: given.Device = "auto",
    dtype: given.Dtype = "auto",
    system: given.System = None,
    think: given.Think = False,
    *,
    options: given.Options,
    watch: given.Watch = False,
    delay: given.Delay = None,
) -> None:
    """Talk with the model; /help lists what can be typed.

    Ctrl-C stops an answer, Ctrl-D leaves.
    """
    given.check_delay(delay)
    if system is not None:
        checked_text(system, "system message")
    loaded = open_model(model, device, dtype)
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

    def run(self) -> None:
        if sys.stdin is None:
            raise InputError("stdin is closed: there is nobody to talk with")
        self._reset("")
        if sys.stdin.isatty():
            import readline  # noqa: F401  line editing and history for input()

            say("/help for commands, Ctrl-C stops an answer, Ctrl-D leaves")
        while not self.done:
            try:
                message = read_message()
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
        result = None
        try:
            with view:
                for event in self.session.stream(message, think=self.think, **self.options):
                    view.show(event)
                    if isinstance(event, Finished):
                        result = event.result
        except KeyboardInterrupt:
            view.interrupt()
            say("interrupted: this turn is not part of the conversation")
            return
        assert result is not None
        view.finish(result)
        say(turn_summary(replace(result, seconds=result.seconds - view.paused), view.paused))

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
            "/quit          leave (or Ctrl-D)\n"
            f"{BLOCK}            starts and ends a message of several lines"
        )

    def _quit(self, _: str) -> None:
        self.done = True

    def _reset(self, _: str) -> None:
        self.session = self.model.chat(self.system)

    def _set_think(self, argument: str) -> None:
        self.think = _switch("/think", argument)

    def _set_watch(self, argument: str) -> None:
        self.watch = _switch("/watch", argument)

    def _set_seed(self, argument: str) -> None:
        if not argument.isdecimal():
            raise InputError("/seed takes a whole number, such as /seed 7")
        self.model.generation.with_options(seed=int(argument))
        self.options["seed"] = int(argument)


def read_message() -> str | None:
    """The next message or command, None at the end of the input."""
    line = _read_line("> ")
    if line is None or not line.startswith(BLOCK):
        return line
    lines = [line.removeprefix(BLOCK)]
    while not lines[-1].rstrip().endswith(BLOCK):
        following = _read_line(". ")
        if following is None:
            break
        lines.append(following)
    return "\n".join(lines).rstrip().removesuffix(BLOCK).strip("\n")


def _read_line(prompt: str) -> str | None:
    try:
        if sys.stdin.isatty():
            return input(prompt)
        line = sys.stdin.readline()
        return line.removesuffix("\n") if line else None
    except EOFError:
        say("")
        return None
    except UnicodeDecodeError:
        raise InputError("stdin is not UTF-8 text: convert it first") from None


def turn_summary(result: Result, paused: float) -> str:
    reused = f"{result.cached_tokens} of {result.prompt_tokens} prompt tokens reused"
    return f"{reused} · {summary(result, paused)}"


def _switch(command: str, argument: str) -> bool:
    if argument not in ("on", "off"):
        raise InputError(f"{command} takes on or off")
    return argument == "on"
