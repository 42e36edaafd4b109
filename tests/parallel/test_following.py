"""What a second process would be told, obeyed by a twin in this one: its caches must be those of the first."""

from __future__ import annotations

import gc
import pickle

import pytest
import torch
from torch import Tensor

import diffusiongemma as dg
from diffusiongemma.engine.engine import Engine
from diffusiongemma.engine.prefixes import Prefixes
from diffusiongemma.errors import InputError
from diffusiongemma.model.cache import SequenceCache
from diffusiongemma.model.model import Model
from diffusiongemma.parallel.following import Follower
from diffusiongemma.parallel.group import Apart, Processes
from diffusiongemma.parallel.orders import LedSequence, Pass, lead
from diffusiongemma.weights.checkpoint import load_model
from diffusiongemma.weights.locate import ASSETS
from diffusiongemma.weights.lora import view_of

NANO = ASSETS / "nano"
LONG = "one two three four five six seven eight nine ten " * 30


class Wire(Processes):
    """In the place of the process group: the follower does in this process what it hears."""

    def __init__(self, twin: Model):
        super().__init__(0, 2)
        self.follower, self.passes, self.left = Follower(twin, self), 0, False
        self.told: Pass | None = None
        self.x: Tensor | None = None

    def tell(self, message: Pass | None) -> None:
        self.told = pickle.loads(pickle.dumps(message))

    def leave(self) -> None:
        self.left = True

    def share_out(self, x: Tensor) -> None:
        if self.x is not None:
            x.copy_(self.x)
            return
        assert self.told is not None
        self.x, self.passes = x, self.passes + 1
        self.follower.do(self.told)
        self.x = None


@pytest.fixture
def led(monkeypatch: pytest.MonkeyPatch) -> tuple[dg.DiffusionGemma, Wire]:
    monkeypatch.setattr("atexit.register", lambda *_: None)
    model, wire = dg.load("nano", device="cpu"), Wire(load_model(NANO, torch.float32))
    lead(model.network, wire)
    return model, wire


def same(mine: SequenceCache, theirs: SequenceCache) -> bool:
    return mine.length == theirs.length and all(
        torch.equal(getattr(one, name)[:, one.start : one.end], getattr(other, name)[:, other.start : other.end])
        for one, other in zip(mine.layers, theirs.layers, strict=True)
        for name in ("keys", "values")
    )


def twin(wire: Wire, cache: SequenceCache) -> SequenceCache:
    assert isinstance(cache, LedSequence)
    found = wire.follower.held[cache._orders.number(cache)]
    assert isinstance(found, SequenceCache)
    return found


def test_caches_are_copied_cut_back_and_dropped_together(led: tuple[dg.DiffusionGemma, Wire]) -> None:
    model, wire = led
    ids = torch.arange(10, 410)[None]
    cache = model.encode(ids)
    branch = cache.copy()
    branch.rows[0].forget(30)
    model.denoise(ids[:, :50], branch)
    model.encode(ids[:, :20], branch)
    assert same(cache.rows[0], twin(wire, cache.rows[0])) and cache.rows[0].length == 400
    assert same(branch.rows[0], twin(wire, branch.rows[0])) and branch.rows[0].length == 390
    assert len(wire.follower.held) == 2
    del cache
    gc.collect()
    model.denoise(ids[:, :50], branch)
    assert len(wire.follower.held) == 1


def test_sessions_drafts_and_kept_prefixes_have_the_texts_of_one_process(led: tuple[dg.DiffusionGemma, Wire]) -> None:
    model, wire = led
    alone = dg.load("nano", device="cpu")
    options = {"seed": 3, "steps": 4, "max_new_tokens": 96, "verify": "always"}

    def texts(one: dg.DiffusionGemma) -> list[str]:
        session = one.chat()
        said = [session.send(text, **options).text for text in ("Name a bird.", "Another.")]
        engine = Engine(one.network, one.tokenizer, prefixes=Prefixes(one.network, 10**8))
        for tail in ("a", "b"):
            said += [result.text for result in engine.results([one.request(LONG + tail, seed=1, steps=2)])]
        assert engine.prefixes is not None and len(engine.prefixes)
        said.append(one.generate("Go.", seed=2, mode="ar", max_new_tokens=8).text)
        return said

    assert texts(model) == texts(alone) and wire.passes > 20
    gc.collect()
    model.generate("Go.", seed=2, steps=1, max_new_tokens=1)
    assert len(wire.follower.held) <= 1  # that of the last request, which is told to be dropped with the next pass


def test_a_pass_that_breaks_off_ends_it_all(
    led: tuple[dg.DiffusionGemma, Wire], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, wire = led
    cache = model.encode(torch.arange(10, 20)[None])
    broken = model.network.backbone.layers[3].register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model.encode(torch.arange(10, 20)[None])
    broken.remove()
    assert wire.left
    with pytest.raises(Apart, match=r"division by zero.*start them all again"):
        model.denoise(torch.arange(10, 20)[None], cache)


def test_caches_of_other_lengths_are_noticed(led: tuple[dg.DiffusionGemma, Wire]) -> None:
    model, wire = led
    cache = model.encode(torch.arange(10, 20)[None])
    twin(wire, cache.rows[0]).forget(1)
    with pytest.raises(Apart, match=r"hold \[9\], not \[10\] tokens"):
        model.denoise(torch.arange(10, 20)[None], cache)


def test_what_needs_all_weights_is_refused(led: tuple[dg.DiffusionGemma, Wire], tmp_path: object) -> None:
    from diffusiongemma.weights.adapter import load_adapter

    model, _ = led
    for refused in (
        lambda: model.save_pretrained(str(tmp_path)),
        lambda: model.to("cpu"),
        lambda: load_adapter(view_of(model.network), NANO),
    ):
        with pytest.raises(InputError, match="other processes hold a share"):
            refused()
