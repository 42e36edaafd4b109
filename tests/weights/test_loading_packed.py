"""What a model in few bits is loaded with: rounded activations, keys and values in 8 bits."""

from __future__ import annotations

import pytest
import torch
from typer.testing import CliRunner

import diffusiongemma as dg
from diffusiongemma.cli import build
from diffusiongemma.errors import InputError
from diffusiongemma.kernels.native import kernels
from diffusiongemma.kernels.rows import MULTIPLE
from diffusiongemma.weights import packed_modules

needs_kernels = pytest.mark.skipif(kernels()[0] is None, reason="needs a C++ compiler")
PROMPTS = ["Correct the spelling: I has a aple.", "Hello", "2+2"]
OPTIONS = dict(max_new_tokens=24, steps=6, seed=3)


@pytest.fixture(scope="module")
def packed():
    return dg.load("nano", device="cpu", quantize="int4", kv="int8")


@needs_kernels
@pytest.mark.parametrize("mode", ["diffusion", "ar"])
def test_a_packed_model_writes_the_same_alone_and_in_a_batch(packed, mode):
    assert packed.network.eight_bit_cache
    together = packed.generate(PROMPTS, mode=mode, **OPTIONS)
    for prompt, result in zip(PROMPTS, together, strict=True):
        alone = packed.generate(prompt, mode=mode, **OPTIONS)
        assert (alone.tokens, alone.text) == (result.tokens, result.text)


@needs_kernels
def test_a_token_is_encoded_the_same_beside_prompts(packed):
    """Whatever multiplies it: rows that come one by one may have kernels of their own."""
    model = packed.network
    prompts = [torch.tensor(packed.prompt(text).ids) for text in ("Hello", "Name three colours.")]
    token = torch.tensor([40])

    alone = model.encode(prompts[0][None]).rows[0]
    by_itself = model.encode_rows([alone], [model.backbone.embed(token)])
    rows = [model.encode(prompts[0][None]).rows[0], model.new_sequence()]
    together = model.encode_rows(rows, [model.backbone.embed(ids) for ids in (token, prompts[1])])
    afresh = model.encode_rows([model.new_sequence()], [model.backbone.embed(prompts[1])])
    assert torch.equal(together[:1], by_itself) and torch.equal(together[1:], afresh)
    for mine, other in zip(rows[0].layers, alone.layers, strict=True):
        assert all(map(torch.equal, mine.last(1), other.last(1)))


@needs_kernels
def test_batches_are_filled_up_where_any_product_would_round_otherwise(packed):
    assert packed.network.row_multiple == 1
    plain = dg.load("nano", device="cpu", quantize="int4", activations="full")
    mixed = dg.load("nano", device="cpu", quantize="int4", activations="full").network
    width = mixed.config.hidden_size
    mixed.backbone.layers[0].mlp.gate_proj = torch.nn.Linear(width, mixed.config.intermediate_size, bias=False)
    packed_modules.multiply_in_8_bits(mixed)
    assert plain.network.row_multiple == mixed.row_multiple == MULTIPLE


@needs_kernels
def test_rounded_activations_change_little(packed):
    plain = dg.load("nano", device="cpu", quantize="int4", activations="full", kv="int8")
    assert not any(getattr(module, "rounded", None) for module in plain.network.modules())
    tokens, canvas = (torch.tensor([packed.prompt(text).ids]) for text in (PROMPTS[0], "Some other text."))
    ours, theirs = (m.denoise(canvas, m.encode(tokens)) for m in (packed, plain))
    assert 0 < (ours - theirs).norm() < 0.15 * theirs.norm()  # where scores are close a router chooses otherwise


def test_what_cannot_be_is_said(monkeypatch):
    with pytest.raises(InputError, match="quantize"):
        dg.load("nano", activations="int8", device="cpu")
    for option in ("activations", "kv"):
        with pytest.raises(InputError) as caught:
            dg.load("nano", **{option: "int3"})
        assert caught.value.option == option
    monkeypatch.setattr(packed_modules, "kernels", lambda: (None, "no compiler was found"))
    with pytest.raises(InputError, match="no compiler was found"):
        dg.load("nano", quantize="int8", activations="int8", device="cpu")
    assert dg.load("nano", quantize="int8", device="cpu").generate("Hello", **OPTIONS).tokens


def test_the_command_line_says_how_a_model_is_loaded(monkeypatch):
    """What is chosen reaches the loader, and what cannot be is named as it was typed."""
    given = {}

    def load(name, **options):
        given.update(options)
        raise InputError("seen", option="kv", got="x")

    monkeypatch.setattr("diffusiongemma.api.load", load)
    for command in (["run", "Hello"], ["sudoku"]):
        given.clear()
        words = [*command, "--activations", "full", "--kv", "int8"]
        invoked = CliRunner().invoke(build(command[:1]), words, input="." * 81)
        assert (given.get("activations"), given.get("kv")) == ("full", "int8"), (command, invoked.output)


@needs_kernels
def test_packed_weights_are_not_moved(monkeypatch, packed):
    assert packed.to("cpu") is packed
    monkeypatch.setattr("diffusiongemma.api.choose_device", lambda device: torch.device(device))
    with pytest.raises(InputError, match="load the model with it"):
        packed.to("meta")
    with pytest.raises(InputError, match="no such products") as caught:
        dg.load("nano", device="meta", activations="int8")
    assert caught.value.option == "activations"
