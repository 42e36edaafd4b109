"""Compiled losses: the same numbers, for shapes that come back only, and a run without a compiler."""

from __future__ import annotations

import pytest
import torch
from training import VOCABULARY, WIDTH, random_batch, run, tiny_model

from diffusiongemma.errors import InputError
from diffusiongemma.train.compiled import OFTEN, Compiled
from diffusiongemma.train.config import TrainConfig
from diffusiongemma.train.finetune import SUDOKU_LARGE, SUDOKU_SMALL, FineTune, Options
from diffusiongemma.train.objective import Draw, Objective, loss, mean_canvas_loss
from diffusiongemma.train.trainer import Training


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("starts", [(9,), (3, 7, 9, 12)])  # with keys cut, and masked
@pytest.mark.parametrize("own_samples", [0.0, 0.5])
def test_loss_and_gradients_are_those_of_the_plain_function(starts, own_samples):
    model, objective = tiny_model(), Objective(draws=2, own_samples=own_samples)
    batch, draw = random_batch(generator(), 4, starts), Draw.sample(4, WIDTH, VOCABULARY, objective, generator(1))
    compiled = torch.compile(mean_canvas_loss, dynamic=False, backend="aot_eager", fullgraph=True)
    results = []
    for function in (mean_canvas_loss, compiled):
        model.zero_grad()
        result = loss(model, batch, draw, objective, canvas_loss=function)
        result.total.backward()
        results.append((result.total.detach(), result.encoder.detach(), [p.grad.clone() for p in model.parameters()]))
    # Compiled code has PyTorch's own GELU throughout, whose last bit a random self-conditioner magnifies.
    torch.testing.assert_close(*results, atol=1e-4, rtol=1e-3)


def test_only_shapes_that_come_back_often_are_compiled_for():
    wrapped = Compiled(torch.square, backend="eager")
    seen = []
    wrapped.compiled = lambda x: seen.append(len(x)) or x.square()
    for size in range(1, 30):  # one shape in half of the calls, each of the others but a few times
        for n in (99, size % 10):
            assert wrapped(torch.full((n,), 3.0)).tolist() == [9.0] * n
    assert seen == [99] * (29 - OFTEN + 1)


def test_without_a_compiler_the_run_goes_on():
    def broken(graph, inputs):
        raise RuntimeError("no C++ compiler\nand many more lines")

    wrapped = Compiled(torch.square)
    wrapped.compiled = torch.compile(torch.square, backend=broken)
    with pytest.warns(UserWarning, match="could not compile, going on without: no C\\+\\+ compiler$"):
        results = [wrapped(torch.full((2,), 3.0)).tolist() for _ in range(OFTEN + 2)]
    assert results == [[9.0, 9.0]] * (OFTEN + 2)


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
