"""Layers for the encoder alone: canvases stay to the last bit, and the encoder learns."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from training import tiny_model

from diffusiongemma.config import FULL, SLIDING
from diffusiongemma.errors import InputError
from diffusiongemma.model.model import Model
from diffusiongemma.tasks import sudoku
from diffusiongemma.train.objective import Batch, encode
from diffusiongemma.train.optimisation import initialise
from diffusiongemma.weights.checkpoint import load_model
from diffusiongemma.weights.saving import save_model
from recipes.nano import everyday
from recipes.nano.__main__ import main
from recipes.nano.apart import check_layers
from recipes.nano.deeper import LONGER, as_before, encoder_layers, train_encoder_layers, with_encoder_layers

IDS, CANVAS = torch.arange(1, 13)[None], torch.arange(8, 16)[None]


def deeper(model: Model, spread: float = 1.0, count: int = 2) -> Model:
    """With layers that add something, as trained ones do."""
    made = with_encoder_layers(model, count, seed=1)
    with torch.no_grad():
        for layer in encoder_layers(made):
            for weight in layer.parameters():
                weight.add_(spread)
    return made.eval()


@torch.no_grad()
def logits(model: Model) -> torch.Tensor:
    first = model.denoise(CANVAS, model.encode(IDS))
    return model.denoise(CANVAS, model.encode(IDS), model.soft_embedding(first))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("left_out", [True, False])
def test_canvases_stay_to_the_last_bit(dtype: torch.dtype, left_out: bool):
    """Whether the layers are left out of the decoder, as here, or computed, as elsewhere."""
    model = tiny_model(seed=3).eval()
    more = deeper(model).to(dtype)
    if not left_out:
        more.backbone._decoding = len(more.backbone.layers), 1.0
    assert torch.equal(logits(model.to(dtype)), logits(more))


@torch.no_grad()
def hidden(model: Model) -> torch.Tensor:
    return model.encode_rows([model.new_sequence()], [model.backbone.embed(IDS[0])])


def test_the_encoder_says_the_same_at_first_and_then_another_thing():
    model = tiny_model(seed=3).eval()
    assert torch.equal(hidden(model), hidden(with_encoder_layers(model, 2, seed=1).eval()))
    assert not torch.allclose(hidden(model), hidden(deeper(model)), atol=0.1)


def test_they_alone_learn_and_are_found_again(tmp_path: Path):
    model = train_encoder_layers(tiny_model(seed=3), 2, seed=1)
    count = model.config.num_layers
    assert model.config.layer_types[-2:] == (SLIDING, FULL)
    learning = {name.split(".")[1] for name, weight in model.backbone.named_parameters() if weight.requires_grad}
    assert learning == {str(count - 2), str(count - 1)}
    save_model(model, tmp_path)
    again = load_model(tmp_path, torch.float32)
    assert again.backbone.decoding == (count - 2, LONGER**-1)
    assert train_encoder_layers(again, 2, seed=1) is again
    check_layers(tiny_model())
    with pytest.raises(InputError, match="experts that learn apart come before"):
        check_layers(again)
    with pytest.raises(InputError, match="has 2 layers"):
        train_encoder_layers(again, 1, seed=1)


@torch.no_grad()
def probabilities(model: Model, ids: torch.Tensor) -> torch.Tensor:
    return model.backbone.logits(encode(model, ids[None])[0][0]).softmax(-1)


def test_what_was_known_stays_and_the_rest_is_learnt():
    before = tiny_model(seed=3).eval()
    made = train_encoder_layers(deeper(before, spread=0.05), 2, seed=1)
    ids = torch.arange(1, 25).view(2, 12)
    supervised = torch.rand(2, 12, generator=torch.Generator().manual_seed(0)) < 0.5
    batch = Batch(ids, start=torch.full((2,), 12), canvas=ids[:, :0], supervised=supervised)
    expected = []
    for row, chosen in zip(ids, supervised, strict=True):
        known, says = (probabilities(model, row) for model in (before, made))
        for i in chosen[1:].nonzero().flatten():
            sure = float(known[i, row[i + 1]])
            expected.append(-sure * (known[i] * says[i].log()).sum() - (1 - sure) * says[i, row[i + 1]].log())
    loss = as_before(made, batch)
    torch.testing.assert_close(loss, torch.stack(expected).mean())
    loss.backward()
    assert all(weight.grad is not None for weight in encoder_layers(made)[0].mlp.parameters())
    assert not made.backbone.layers[0]._forward_hooks and not made.backbone.layers[-3]._forward_hooks


def test_the_command(tmp_path: Path, monkeypatch):
    bank = sudoku.SeedBank.build(train=6, test=2)
    monkeypatch.setattr(sudoku.SeedBank, "load_or_build", lambda *_: bank)
    sentences = everyday.Sentences(["She has two old cats."])
    materials = everyday.Materials(sentences, ["walrus"], everyday.writing.Written({}))
    monkeypatch.setattr(everyday.Materials, "read", lambda _: materials)
    small, out = tmp_path / "small", tmp_path / "out"
    model = Model(replace(tiny_model().config, vocab_size=4096, canvas_length=96))
    initialise(model, 0)
    save_model(model, small)
    command = ["train", str(out), "--recipe", "deeper", "--init", str(small), "--encoder-layers", "1"]
    command += ["--texts", "8", "--pages", "1", "--precision", "float32", "--cache", str(tmp_path)]
    main([*command, "--steps", "1"])
    main([*command, "--steps", "2", "--resume"])
    with pytest.raises(SystemExit, match="kept"):  # another loss than the run's
        main([*command, "--steps", "3", "--resume", "--kept"])
    before, made = (load_model(where, torch.bfloat16) for where in (small, out))
    assert torch.equal(logits(before), logits(made)) and made.config.num_layers == before.config.num_layers + 1
    told = [json.loads(line) for line in (out / "training" / "metrics.jsonl").read_text().splitlines()]
    assert len(told) == 2 and all(record["also"] > 1 and record["norm"] > 0 for record in told)
    kept = [*command, "--kept", "--steps", "1"]
    kept[1] = str(tmp_path / "kept")
    main(kept)
    (first,) = (json.loads(line) for line in (tmp_path / "kept" / "training" / "metrics.jsonl").open())
    assert first["also"] != told[0]["also"]  # of the same texts and weights
    for more, message in (
        (["--batch", "2"], "leave out --batch"),
        (["--draws", "2"], "leave out --draws"),
        (["--held", "2", "--new-from", "1"], "leave out --new-from and --held"),
    ):
        with pytest.raises(SystemExit, match=message):
            main([*command, *more])
    with pytest.raises(SystemExit, match="that reads --texts or --pages"):
        main([*command[:8]])
    with pytest.raises(SystemExit, match="--kept goes with --encoder-layers and --texts"):
        main([*command[:6], "--kept"])
