"""One request on its way: its cache, what has come out of it, and the phase it is in."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from diffusiongemma.control.inference.labels import LabelReader
from diffusiongemma.diffusion.adjust import UNSETTLED
from diffusiongemma.diffusion.denoise import Canvas
from diffusiongemma.diffusion.noise import SAMPLE, Noise
from diffusiongemma.diffusion.pins import Pinned
from diffusiongemma.diffusion.readout import OWN, Reader, Unread
from diffusiongemma.engine.chunks import prompt_chunks
from diffusiongemma.engine.holds import Holds
from diffusiongemma.engine.output import Output
from diffusiongemma.engine.phases import Denoising, Encoding, Phase, Work, Writing
from diffusiongemma.engine.request import Request
from diffusiongemma.events import Event
from diffusiongemma.model.model import Model


class Generation:
    """What the phases of one request have in common. The engine asks for `work` and hands its outcome to `take`."""

    def __init__(self, request: Request, model: Model, tokenizer: Any):
        self.request, self.model, self.config = request, model, request.config
        self.waited, self.sat_out = 0.0, 0  # seconds and, at a stretch, steps of others that it has sat out (`turns`)
        self.sequence = request.cache or model.new_sequence()
        self.holds = Holds.of(request)
        self.output = Output(request, tokenizer, self.sequence.length)
        self.canvas: Canvas | None = None  # the open one, or the last
        chunks = prompt_chunks(request.prompt, self.sequence.length, request.chunks)
        self.phase: Phase = Encoding(self, chunks, _answer)

    def work(self) -> Work | None:
        """What is to be done for it next; None when it has finished."""
        return self.phase.work()

    def take(self, outcome: Any) -> list[Event]:
        """Go on with the outcome of that work."""
        self.phase = self.phase.take(outcome)
        return self.output.take_events()

    def open_canvas(self) -> Canvas:
        """The next canvas, behind what is encoded."""
        index, branch = len(self.output.steps), self.request.branch
        noise = Noise(self.config.seed, index) if branch is None else branch.noise(self.config.seed, index)
        decoding = self.config if branch is None else branch.decoding(self.config, index)
        config, offset, device = self.model.config, len(self.output.tokens), self.model.device
        reader = self._reader(config.canvas_length)
        width = min(config.canvas_length, reader.positions)
        pins = self.holds.canvas_pins(offset, width, device)
        canvas = Canvas.open(self.sequence, width, config.vocab_size, noise, decoding, device, pins)
        self.holds.begin(canvas, offset, config.vocab_size)
        canvas.shown = self.request.record or self.request.frames
        labels = self.request.labels
        canvas.reader = reader if labels is None else LabelReader(labels, reader)
        self.canvas = canvas
        return canvas

    def narrow(self, canvas: Canvas) -> None:
        """Early text has been pinned on the open canvas: what the answer must match is to be read with it."""
        if self.output.constrained is not None and canvas.pins is not None:
            canvas.reader = self._reader(len(canvas.tokens), tuple(canvas.pins.tokens[: canvas.frozen].tolist()))

    def _reader(self, positions: int, frozen: tuple[int, ...] = ()) -> Reader:
        """How the next `positions` tokens, or fewer where a constraint's limit is near, are read."""
        output, penalties = self.output, self.config.reading.penalties
        penalised = None
        if penalties:
            # Token by token there is no canvas; places to fill in see what stands before it.
            settled = self._settled if positions > 1 and not self.request.regions else lambda: None
            penalised = penalties.over(self.request.prompt.ids, output.tokens, settled)
        device, offset = self.model.device, len(output.tokens)
        return self.holds.reader(output.constrained, offset, positions, device, frozen, penalised)

    def _settled(self) -> Tensor | None:
        """The open canvas's most probable tokens where the last step did not change them, UNSETTLED elsewhere."""
        canvas = self.canvas
        if canvas is None or canvas.prediction is None or canvas.settled is None:
            return None
        return canvas.prediction.argmax.masked_fill(canvas.settled >= canvas.step, UNSETTLED)

    def token_reader(self) -> Reader:
        """How the next token alone is read."""
        pinned = self.holds.pins.get(len(self.output.tokens))
        return self._reader(1) if pinned is None else Pinned(pinned)

    def unread(self, hidden: Tensor, reader: Reader = OWN) -> Unread:
        """The next n tokens, to be read from hidden states [n, D] by the encoder."""
        noise, first = Noise(self.config.seed, 0), len(self.output.tokens) + 1
        uniforms = torch.cat([noise.uniforms(first + i, SAMPLE, 1) for i in range(len(hidden))])
        temperature, top = self.config.temperature.autoregressive, self.config.reading.top_logprobs
        return Unread(hidden, uniforms, temperature or 1.0, temperature == 0, reader, top)


def _answer(generation: Generation, hidden: Tensor) -> Phase:
    """What follows on the prompt."""
    if generation.config.mode != "ar":
        return Denoising(generation, hidden)
    generation.output.forward_passes += 1  # the prompt's last pass gives the first token
    return Writing(generation, hidden)
