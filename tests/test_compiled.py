"""Compiled losses: the same numbers, for shapes that come back only, and a run without a compiler."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch
from training import VOCABULARY, WIDTH, random_batch, run, tiny_model

from diffusiongemma.config import SLIDING
from diffusiongemma.errors import InputError
from diffusiongemma.model.backbone import Layer
from diffusiongemma.train.compiled import OFTEN, Compiled
from diffusiongemma.train.config import TrainConfig
from diffusiongemma.train.finetune import SUDOKU_LARGE, SUDOKU_SMALL, FineTune, Options
from diffusiongemma.train.objective import Draw, Objective, loss, mean_canvas_loss
from diffusiongemma.train.trainer import Training


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("starts", [(9,), (3, 7, 9, 12)])  # with keys cut, and masked
@pytest.mark.parametrize("own_samples", [0.0, 0.5])
def test_loss_and_gradients_are_those_of_the_plain_function(starts, own_samples, monkeypatch):
    monkeypatch.setattr("diffusiongemma.train.compiled.OFTEN", 1)
    model, objective = tiny_model(), Objective(draws=2, own_samples=own_samples)
    batch, draw = random_batch(generator(), 4, starts), Draw.sample(4, WIDTH, VOCABULARY, objective, generator(1))
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph

    results = []
    for function in (mean_canvas_loss, Compiled(mean_canvas_loss, backend=backend)):
        model.zero_grad()
        result = loss(model, batch, draw, objective, canvas_loss=function)
        result.total.backward()
        results.append((result.total.detach(), result.encoder.detach(), [p.grad.clone() for p in model.parameters()]))
    assert len(graphs) > 6  # both kinds of layers, encoding and denoising
    # Compiled code has PyTorch's own GELU throughout, whose last bit a random self-conditioner magnifies.
    torch.testing.assert_close(*results, atol=1e-4, rtol=1e-3)


def test_all_layers_share_what_is_compiled(monkeypatch):
    monkeypatch.setattr("diffusiongemma.train.compiled.OFTEN", 1)
    counts = []
    for layers in (1, 5):
        graphs = []
        model = tiny_model(layer_types=(SLIDING,) * layers)
        compiled = Compiled(mean_canvas_loss, backend=lambda graph, inputs, g=graphs: g.append(graph) or graph)
        batch, draw = random_batch(generator(), 4, (9,)), Draw.sample(4, WIDTH, VOCABULARY, Objective(), generator(1))
        loss(model, batch, draw, Objective(), canvas_loss=compiled)
        counts.append(len(graphs))
    assert counts[0] == counts[1] > 0


def test_only_shapes_that_come_back_often_are_compiled_for(monkeypatch):
    wrapped = Compiled(torch.square, backend="eager")
    seen = []

    @contextmanager
    def in_place(parts):
        seen.append(True)
        yield

    monkeypatch.setattr("diffusiongemma.train.compiled._in_place", in_place)
    for size in range(1, 30):  # one shape in half of the calls, each of the others but a few times
        for n in (99, size % 10):
            before = len(seen)
            assert wrapped(torch.full((n,), 3.0)).tolist() == [9.0] * n
            assert len(seen) == before or n == 99
    assert len(seen) == 29 - OFTEN + 1


def test_without_a_compiler_the_run_goes_on(monkeypatch):
    def broken(graph, inputs):
        raise RuntimeError("no C++ compiler\nand many more lines")

    monkeypatch.setattr("diffusiongemma.train.compiled.OFTEN", 2)
    model, plain = tiny_model(), Layer.before
    wrapped = Compiled(mean_canvas_loss, backend=broken)
    batch, draw = random_batch(generator()), Draw.sample(4, WIDTH, VOCABULARY, Objective(), generator(1))

    def total():
        return float(loss(model, batch, draw, Objective(), canvas_loss=wrapped).total.detach())

    losses = [total()]
    with pytest.warns(UserWarning, match="could not compile, going on without: no C\\+\\+ compiler$"):
        losses += [total() for _ in range(3)]
    assert losses == [losses[0]] * 4 and Layer.before is plain


def test_a_compiled_run_gives_the_weights_of_a_plain_one(tmp_path, monkeypatch):
    monkeypatch.setattr("diffusiongemma.train.trainer.Compiled", lambda f: Compiled(f, backend="aot_eager"))
    plain, _ = run(tmp_path / "plain")
    compiled, _ = run(tmp_path / "compiled", compile=True)
    torch.testing.assert_close(compiled.state_dict(), plain.state_dict(), atol=1e-5, rtol=1e-4)


def test_the_option_reaches_the_run(tmp_path):
    options = dict(model="nano", out=tmp_path / "out", steps=1)
    compiled = [FineTune.prepare(Options(**options, compile=c), SUDOKU_LARGE, SUDOKU_SMALL) for c in (True, False)]
    assert [run.config.compile for run in compiled] == [True, False]
    modules = [Training(run.model, lambda step: [], run.config, run.objective, None).module for run in compiled]
    assert isinstance(modules[0].canvas_loss, Compiled) and modules[1].canvas_loss is mean_canvas_loss


def test_gradient_checkpointing_does_not_go_with_it():
    config = TrainConfig(compile=True, grad_checkpoint=True)
    with pytest.raises(InputError, match="compile works on whole weights"):
        Training(tiny_model(), lambda step: [], config, Objective(), None)
