"""Compiled losses: the same numbers, one graph for all lengths, and a run without a compiler."""

from __future__ import annotations

import pytest
import torch
from training import VOCABULARY, WIDTH, random_batch, run, tiny_model

from diffusiongemma.config import SLIDING
from diffusiongemma.errors import InputError
from diffusiongemma.model.backbone import Layer
from diffusiongemma.train.compiled import Compiled
from diffusiongemma.train.config import TrainConfig
from diffusiongemma.train.finetune import SUDOKU_LARGE, SUDOKU_SMALL, FineTune, Options
from diffusiongemma.train.objective import Draw, Objective, loss, mean_canvas_loss
from diffusiongemma.train.run import Run
from diffusiongemma.train.trainer import Training


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("starts", [(9,), (3, 7, 9, 12)])  # with keys cut, and masked
def test_loss_and_gradients_are_those_of_the_plain_function(starts):
    model, objective = tiny_model(), Objective(draws=2)
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
    counts = []
    for layers in (1, 5):
        graphs = []
        model = tiny_model(layer_types=(SLIDING,) * layers)
        compiled = Compiled(mean_canvas_loss, backend=lambda graph, inputs, g=graphs: g.append(graph) or graph)
        batch, draw = random_batch(generator(), 4, (9,)), Draw.sample(4, WIDTH, VOCABULARY, Objective(), generator(1))
        loss(model, batch, draw, Objective(), canvas_loss=compiled)
        counts.append(len(graphs))
    assert counts[0] == counts[1] > 0


def test_one_graph_serves_all_lengths():
    """What was compiled for the first two batches is all there is to compile."""
    model, graphs = tiny_model(), []
    compiled = Compiled(mean_canvas_loss, backend=lambda graph, inputs: graphs.append(graph) or graph)
    counts = []
    for rows, longest in ((4, 12), (3, 15), (2, 20), (5, 31)):
        batch = random_batch(generator(rows), rows, (7, 3, longest))
        draw = Draw.sample(rows, WIDTH, VOCABULARY, Objective(self_conditioning=1.0), generator(1))
        loss(model, batch, draw, Objective(), canvas_loss=compiled).total.backward()
        counts.append(len(graphs))
    assert 0 < counts[1] == counts[-1]


def test_without_a_compiler_the_run_goes_on():
    def broken(graph, inputs):
        raise RuntimeError("no C++ compiler\nand many more lines")

    model, plain = tiny_model(), Layer.before
    wrapped = Compiled(mean_canvas_loss, backend=broken)
    batch, draw = random_batch(generator()), Draw.sample(4, WIDTH, VOCABULARY, Objective(), generator(1))

    def total():
        return float(loss(model, batch, draw, Objective(), canvas_loss=wrapped).total.detach())

    with pytest.warns(UserWarning, match="could not compile, going on without: no C\\+\\+ compiler$") as told:
        losses = [total() for _ in range(3)]
    assert len(told) == 1 and Layer.before is plain
    assert losses == [float(loss(model, batch, draw, Objective()).total.detach())] * 3


def test_a_compiled_run_gives_the_weights_of_a_plain_one(tmp_path, monkeypatch):
    monkeypatch.setattr("diffusiongemma.train.trainer.Compiled", lambda f: Compiled(f, backend="aot_eager"))
    plain, _ = run(tmp_path / "plain")
    compiled, _ = run(tmp_path / "compiled", compile=True)
    torch.testing.assert_close(compiled.state_dict(), plain.state_dict(), atol=1e-5, rtol=1e-4)


def test_the_option_reaches_the_run(tmp_path):
    options = dict(model="nano", out=tmp_path / "out")
    compiled = [
        FineTune.prepare(Options(**options, changes={"train.steps": 1, "train.compile": c}), SUDOKU_LARGE, SUDOKU_SMALL)
        for c in (True, False)
    ]
    assert [run.settings.train.compile for run in compiled] == [True, False]
    modules = [Training(run.model, lambda step: [], run.settings).module for run in compiled]
    assert isinstance(modules[0].canvas_loss, Compiled) and modules[1].canvas_loss is mean_canvas_loss


def test_gradient_checkpointing_does_not_go_with_it():
    config = TrainConfig(compile=True, grad_checkpoint=True)
    with pytest.raises(InputError, match="compile works on whole weights"):
        Training(tiny_model(), lambda step: [], Run(config))
