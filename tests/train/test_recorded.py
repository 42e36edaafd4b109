"""Captured passes: off a GPU they run as they are, and add the gradients of the plain ones."""

from __future__ import annotations

import pytest
import torch
from training import CONFIG, VOCABULARY, WIDTH, random_batch, run, tiny_model

from diffusiongemma.diffusion.decoding import Decoding
from diffusiongemma.diffusion.samplers import Ancestral, FixedK
from diffusiongemma.errors import InputError
from diffusiongemma.train.compiled import Compiled
from diffusiongemma.train.config import TrainConfig
from diffusiongemma.train.objective import Draw, Objective, Totals, loss
from diffusiongemma.train.recorded import (
    LENGTHS,
    Recorder,
    padded,
    record_corruption,
    record_encoder,
    record_rollout,
)
from diffusiongemma.train.rolling import Rolling, encoder_loss, rollout_loss
from diffusiongemma.train.rollouts import Pool, Rollouts
from diffusiongemma.train.run import Run
from diffusiongemma.train.trainer import Training

pytestmark = pytest.mark.usefixtures("one_thread")
CLOSE = dict(atol=1e-4, rtol=1e-3)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gradients(model) -> list[torch.Tensor]:
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("supervised", [True, False])
@pytest.mark.parametrize("draws", [1, 2])
def test_corruptions_are_those_of_the_plain_loss(draws, supervised):
    """Of batches of several lengths, each with its share of the step."""
    model, objective = tiny_model().eval(), Objective(draws=draws, encoder_weight=3.0)
    batches = [random_batch(generator(1)), random_batch(generator(2), 2, (8,))]
    if not supervised:
        for batch in batches:
            batch.supervised[:] = False
    drawn = [Draw.sample(len(b.start), WIDTH, VOCABULARY, objective, generator(i)) for i, b in enumerate(batches)]
    totals = Totals.of(batches, objective)
    plain = [loss(model, b, d, objective, totals) for b, d in zip(batches, drawn, strict=True)]
    sum(p.total for p in plain).backward()
    expected = gradients(model)
    recorder = Recorder(model, model.device, "float32")
    for batch, draw, one in zip(batches, drawn, plain, strict=True):
        found = record_corruption(recorder, model, batch, draw, objective, totals)
        torch.testing.assert_close(found["denoise"], one.denoise.detach(), **CLOSE)
        assert ("encoder" in found) == supervised
        torch.testing.assert_close(found.get("encoder", torch.zeros(())), one.encoder.detach(), **CLOSE)
    torch.testing.assert_close(gradients(model), expected, **CLOSE)


def test_the_encoder_learns_as_it_does_plainly():
    model, batch = tiny_model().eval(), random_batch(generator(3))
    totals = Totals(4, 2 * int(batch.supervised[:, 1:].sum()))
    expected = encoder_loss(model, batch) / 2
    (5 * expected).backward()
    wanted = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in model.parameters()]
    found = record_encoder(Recorder(model, model.device, "float32"), model, batch, 5.0, totals)
    torch.testing.assert_close(found["encoder"], expected.detach(), **CLOSE)
    torch.testing.assert_close(gradients(model), wanted, **CLOSE)


@pytest.mark.parametrize("sampler", [Decoding().sampler, Ancestral(), FixedK()])
def test_rollouts_go_where_they_go_plainly(sampler):
    """The same loss, gradients, canvases and ends, of every sampler's random numbers."""
    rollouts = Rollouts(Decoding(steps=6, sampler=sampler), reads=3, pool=3, longest=4)
    sides = []
    for recorded in (False, True):
        model = tiny_model().eval()
        pool = Pool(rollouts, model)
        pool.fill([random_batch(generator(1))] * 3, Objective(), generator(2))
        canvases = pool.canvases
        if recorded:
            total, ended = record_rollout(Recorder(model, model.device, "float32"), model, pool, canvases, 0.5)
        else:
            total, ended = rollout_loss(model, pool, canvases)
            total = 0.5 * total
            total.backward()
        sides.append((total.detach(), ended, canvases.tensors(), gradients(model)))
    assert sides[0][1].any() and not sides[0][1].all()
    torch.testing.assert_close(*sides, **CLOSE)


def test_texts_are_padded_to_few_lengths():
    ids = torch.ones(2, 70, dtype=torch.long)
    assert padded(ids, 70, 9).shape == (2, 2 * LENGTHS) and (padded(ids, 70, 9)[:, 70:] == 9).all()
    assert padded(ids, 3, 9).shape == (2, LENGTHS)


def test_a_run_learns_the_same(tmp_path):
    """Step by step, as far as rounding lets it."""
    _, plain = run(tmp_path / "plain", steps=4)
    _, captured = run(tmp_path / "captured", steps=4, capture=True)
    for one, other in zip(plain, captured, strict=True):
        assert {name: other[name] for name in one} == pytest.approx(one, rel=1e-2, abs=60)
        assert other["loss"] == pytest.approx(one["loss"], rel=2e-3)


def test_what_does_not_go_with_captures_is_refused():
    config = TrainConfig(**(CONFIG | {"capture": True, "grad_checkpoint": True}))
    with pytest.raises(InputError, match="captured"):
        Training(tiny_model(), lambda step: [random_batch(generator())], Run(config, Objective()))


def test_rolling_takes_the_recorder():
    """Its losses with one are those without."""
    found = []
    for capture in (False, True):
        model = tiny_model().eval()
        recorder = Recorder(model, model.device, "float32") if capture else None
        rollouts = Rollouts(Decoding(steps=6), reads=2, pool=2, longest=4)
        rolling = Rolling(
            model, rollouts, Objective(), TrainConfig(), lambda step: [random_batch(generator(step % 99))], recorder
        )
        found.append([rolling.backward([random_batch(generator(5))], step) for step in range(2)])
    for plain, captured in zip(*found, strict=True):
        assert plain == pytest.approx(captured, rel=1e-3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_graphs_replay_what_the_passes_compute():
    """Batch after batch, of lengths that come again: the gradients of the plain loss each time."""
    model, objective = tiny_model().eval().cuda(), Objective()
    recorder = Recorder(model, model.device, "float32")
    other = tiny_model().eval().cuda()
    for step in range(6):
        batch = random_batch(generator(step), 4, ((3, 7), (9, 12))[step % 2])
        if step % 3 == 2:
            batch.supervised[:] = False
        draw, totals = (
            Draw.sample(4, WIDTH, VOCABULARY, objective, generator(step)),
            Totals(4, max(1, int(batch.supervised[:, 1:].sum()))),
        )
        result = loss(other, batch.to(other.device), draw.to(other.device), objective, totals)
        result.total.backward()
        found = record_corruption(recorder, model, batch, draw, objective, totals)
        torch.testing.assert_close(found["denoise"], result.denoise.detach(), **CLOSE)
        for mine, plain in zip(model.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(
                mine.grad, torch.zeros_like(plain) if plain.grad is None else plain.grad, **CLOSE
            )
    assert len(recorder.graphs) == 2


def test_compiled_parts_are_captured_too(monkeypatch):
    """The losses of the plain ones."""
    monkeypatch.setattr(
        "diffusiongemma.train.recorded.Compiled", lambda f: Compiled(f, backend=lambda graph, inputs: graph)
    )
    batch, draw = random_batch(generator(1)), Draw.sample(4, WIDTH, VOCABULARY, Objective(), generator(2))
    found = []
    for compiled in (False, True):
        model = tiny_model().eval()
        recorder = Recorder(model, model.device, "float32", compiled)
        found.append(record_corruption(recorder, model, batch, draw, Objective(), Totals.of([batch], Objective())))
        assert isinstance(recorder.apply, Compiled) == compiled
    torch.testing.assert_close(*found, **CLOSE)
