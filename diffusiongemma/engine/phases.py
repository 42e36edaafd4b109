"""What one request does, phase by phase.

Encoding (the prompt) ─┬─ Denoising ─┬─ Encoding (what the canvas says) ─ Denoising …
                       │             └─ Encoding (a draft) ─ Weighing ─ Checking ─┬─ Denoising …
                       │                                                          └─ WritingRest ─ Denoising …
                       └─ Writing (autoregressive mode)                                                        … ─ Done

A phase says what it needs next (`work`) and goes on with the outcome (`take`), which is the phase that follows, often
itself. The engine does the work of all requests together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from diffusiongemma.diffusion.denoise import Canvas, Predicted
from diffusiongemma.diffusion.readout import OWN, Prediction, Unread
from diffusiongemma.engine.chunks import Chunk
from diffusiongemma.engine.draft import LOOKED_AT, Draft

if TYPE_CHECKING:
    from diffusiongemma.engine.generation import Generation

# A chunk is encoded -> hidden states [T, D]; hidden states are read -> a prediction [n]; a canvas is read -> what
# is predicted for it.
Work = Chunk | Unread | Canvas
# What comes after the hidden states [T, D] of what was encoded last.
Then = Callable[["Generation", Tensor], "Phase"]


class Phase:
    def __init__(self, generation: Generation):
        self.generation, self.output = generation, generation.output

    def work(self) -> Work | None:
        """What is to be done next, the same until `take`; None where nothing is."""
        raise NotImplementedError

    def take(self, outcome: Any) -> Phase:
        """Go on with the outcome of the work -> the next phase."""
        raise NotImplementedError


class Done(Phase):
    """The result has been sent."""

    def work(self) -> None:
        return None


class Encoding(Phase):
    """Chunks go into the cache one after the other."""

    def __init__(self, generation: Generation, chunks: tuple[Chunk, ...], then: Then):
        super().__init__(generation)
        self.chunks, self.then = chunks, then

    def work(self) -> Chunk:
        return self.chunks[0]

    def take(self, hidden: Tensor) -> Phase:
        if len(self.chunks) > 1:
            return Encoding(self.generation, self.chunks[1:], self.then)
        return self.then(self.generation, hidden)


def encode(generation: Generation, tokens: list[int], then: Then) -> Phase:
    """The phase that follows on tokens of the answer."""
    if generation.output.finished:
        return Done(generation)
    generation.output.forward_passes += 1
    return Encoding(generation, (Chunk(tokens),), then)


class Denoising(Phase):
    """A canvas, from random tokens to text."""

    def __init__(self, generation: Generation, hidden: Tensor):  # [T, D], of what was encoded last
        super().__init__(generation)
        self.last_hidden = hidden[-1:].clone()  # [1, D], what the encoder would write the first token from
        self.canvas = generation.open_canvas()
        self.sent = 0  # leading tokens whose text has gone out

    def work(self) -> Canvas:
        return self.canvas

    def take(self, predicted: Predicted) -> Phase:
        step = predicted.taken()
        before, stable = self.sent, self._stable()
        self.sent = max(before, len(stable))
        self.output.saw_step(replace(step, request=self.generation.request.id, sent=self.sent))
        if not self.canvas.done:
            return self._go_on(stable[before:])
        if not self._to_be_checked():
            return self._commit(before)
        self.output.send(stable[before:])  # the event tells that it is sent: it stands
        return self._check()

    def _stable(self) -> list[int]:
        """The tokens of the canvas that are pinned as early text, as far as they are within the limit."""
        canvas, room = self.canvas, self.output.config.max_new_tokens - len(self.output.tokens)
        if not canvas.frozen or canvas.pins is None:
            return []
        return canvas.pins.tokens[: min(canvas.frozen, room)].tolist()

    def _go_on(self, early: list[int]) -> Phase:
        if early:
            self.output.send(early)
            self.generation.narrow(self.canvas)
        return self

    def _to_be_checked(self) -> bool:
        verify = self.output.config.verify
        return verify in ("surprising", "always") or (verify == "unconverged" and not self.canvas.converged)

    def _commit(self, sent: int) -> Phase:
        kept = self.output.add_canvas(self.canvas)
        self.output.send(kept[sent:])
        return encode(self.generation, kept, Denoising)

    def _check(self) -> Phase:
        """Let the encoder read what the canvas says."""
        assert self.canvas.prediction is not None
        tokens, _ = self.output.until_end(self.canvas.prediction.argmax.tolist())
        return encode(self.generation, tokens, partial(self._encoded, tokens))

    def _encoded(self, tokens: list[int], generation: Generation, hidden: Tensor) -> Phase:
        draft = Draft(self.canvas, tokens, torch.cat([self.last_hidden, hidden]), len(self.output.tokens), self.sent)
        self.output.checked += 1
        if self.output.config.verify == "always":
            return Checking(generation, draft, {}).go_on()
        return Weighing(generation, draft)


class Weighing(Phase):
    """Does a draft stand: is the canvas surer of it than the encoder, or does it not surprise the encoder?"""

    def __init__(self, generation: Generation, draft: Draft):
        super().__init__(generation)
        self.draft, self.unread = draft, generation.unread(draft.hidden[:-1])
        self.by_surprise = self.output.config.verify == "surprising"
        if self.by_surprise:
            self.unread = replace(self.unread, top=max(self.unread.top, LOOKED_AT))

    def work(self) -> Unread:
        return self.unread

    def take(self, prediction: Prediction) -> Phase:
        draft, predictions = self.draft, prediction.split([1] * len(self.draft.tokens))
        if draft.surprises(prediction) if self.by_surprise else not draft.is_surer_than(predictions):
            return Checking(self.generation, draft, dict(enumerate(predictions))).go_on()
        kept = self.output.add_canvas(draft.canvas)
        self.output.send(kept[draft.sent :])
        return next_canvas(self.generation, draft.hidden)


class Checking(Phase):
    """The encoder says of one token of a draft after the other what it would write there."""

    def __init__(self, generation: Generation, draft: Draft, known: dict[int, Prediction]):
        super().__init__(generation)
        self.draft, self.known = draft, known  # by place, what it says where nothing but its own distribution counts
        self.unread: Unread | None = None

    def work(self) -> Unread | None:
        return self.unread

    def take(self, prediction: Prediction) -> Phase:
        assert self.unread is not None
        if self.unread.reader is not OWN:
            return self._write(prediction) or self.go_on()
        first = self.draft.place(self.output)
        self.known = dict(enumerate(prediction.split([1] * len(self.unread.hidden)), first))
        return self.go_on()

    def go_on(self) -> Phase:
        """Write what is known, up to a place that must be read first, or where the encoder leaves the draft."""
        after = None
        while after is None:
            prediction = self._prediction()
            if prediction is None:
                return self
            after = self._write(prediction)
        return after

    def _prediction(self) -> Prediction | None:
        """The one of the next place [1]; None where it must be read first."""
        draft, place = self.draft, self.draft.place(self.output)
        if place < draft.sent:
            return draft.own_prediction(place)
        reader = self.generation.token_reader()
        if reader is OWN and place in self.known:
            return self.known[place]
        count = len(draft.tokens) - place if reader is OWN else 1  # all that remain, in one pass over the vocabulary
        self.unread = self.generation.unread(draft.hidden[place : place + count], reader)
        return None

    def _write(self, prediction: Prediction) -> Phase | None:
        """The next phase, if this token brings it."""
        draft = self.draft
        token = draft.write(prediction, self.output)
        if draft.left:
            self.generation.sequence.forget(len(draft.tokens) - draft.agreed)
            return encode(self.generation, [token], rest_of(draft))
        return next_canvas(self.generation, draft.hidden) if draft.complete else None


class Writing(Phase):
    """The encoder writes, token by token: in autoregressive mode all of the answer."""

    def __init__(self, generation: Generation, hidden: Tensor):  # [T, D], of what was encoded last
        super().__init__(generation)
        self.unread = generation.unread(hidden[-1:], generation.token_reader())

    def work(self) -> Unread:
        return self.unread

    def take(self, prediction: Prediction) -> Phase:
        token = self.output.add_token(prediction, settled=1)
        self.output.commit_token()
        self.output.send([token])
        return encode(self.generation, [token], Writing)


class WritingRest(Writing):
    """The rest of a canvas whose draft the encoder has left."""

    def __init__(self, generation: Generation, hidden: Tensor, draft: Draft):
        super().__init__(generation, hidden)
        self.draft = draft

    def take(self, prediction: Prediction) -> Phase:
        token = self.draft.write(prediction, self.output)
        return encode(self.generation, [token], rest_of(self.draft))


def rest_of(draft: Draft) -> Then:
    """What follows on a token that the encoder wrote in place of the draft's."""
    return Denoising if draft.complete else partial(WritingRest, draft=draft)


def next_canvas(generation: Generation, hidden: Tensor) -> Phase:
    """What follows on a canvas that is encoded."""
    return Done(generation) if generation.output.finished else Denoising(generation, hidden)
