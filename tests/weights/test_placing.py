"""One model over several devices, by layers: where each goes, and that nothing else changes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from places import Mixed, Places, lay, place, put
from torch import nn

import diffusiongemma as dg
from diffusiongemma.cli import main
from diffusiongemma.config import ModelConfig
from diffusiongemma.engine import memory
from diffusiongemma.engine.memory import cache_budget, layer_bytes
from diffusiongemma.errors import InputError
from diffusiongemma.model.backbone import Backbone
from diffusiongemma.model.cache import SequenceCache
from diffusiongemma.model.model import Model
from diffusiongemma.weights.adapter import load_adapter, save_adapter
from diffusiongemma.weights.checkpoint import built, load_model, open_checkpoint
from diffusiongemma.weights.locate import ASSETS
from diffusiongemma.weights.lora import LoraConfig, TwoModeLayer, adapters, add_lora
from diffusiongemma.weights.placing import Placement, placed
from diffusiongemma.weights.quantize import quantize
from diffusiongemma.weights.schemes import Scheme

BASE = ASSETS / "nano-base"  # six layers, the last of them global
CONFIG = ModelConfig.from_file(BASE / "config.json")
CPU, META = torch.device("cpu"), torch.device("meta")
OPTIONS = {"seed": 7, "max_new_tokens": 96, "steps": 3}


# --- which layer goes where -----------------------------------------------------------------------------------------


def all_placements(count: int, layers: int) -> Iterator[tuple[tuple[int, ...], int]]:
    for cuts in combinations(range(1, layers), count - 1):
        ends = [*cuts, layers]
        where = tuple(sum(layer >= end for end in ends) for layer in range(layers))
        for outside in range(count):
            yield where, outside


@given(
    st.lists(st.integers(1, 100), min_size=3, max_size=7),
    st.lists(st.integers(1, 300), min_size=1, max_size=3),
    st.integers(0, 200),
    st.integers(0, 20),
)
def test_the_fullest_device_is_as_empty_as_can_be(layers: list[int], free: list[int], outside: int, work: int) -> None:
    def fullest(placement: Placement) -> float:
        taken = placement.shared_out(layers, outside)
        return max((size + work) / room for size, room in zip(taken, free, strict=True))

    devices = [torch.device("cuda", i) for i in range(len(free))]
    found = placed(devices, free, layers, outside, work)
    assert list(found.layers) == sorted(found.layers) and set(found.layers) == set(range(len(free)))
    best = min(fullest(Placement(tuple(devices), *one)) for one in all_placements(len(free), len(layers)))
    assert fullest(found) == pytest.approx(best)


def test_a_placement_tells_where_weights_are() -> None:
    found = placed([torch.device("cuda", i) for i in range(3)], [10, 20, 50], [5] * 7, 9, 0)
    assert found.layers == (0, 1, 1, 2, 2, 2, 2) and found.outside == 2
    assert str(found) == "layer 0 on cuda:0, layers 1 to 2 on cuda:1, layers 3 to 6 and the vocabulary on cuda:2"
    assert found("backbone.layers.1.mlp.gate_proj.weight") == torch.device("cuda:1")
    assert found("backbone.embed_tokens.weight") == found("vision") == torch.device("cuda:2")


# --- what cannot be -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"devices": ["cpu"] * 7}, "7 devices for 6 layers"),
        ({"devices": ["cpu", "meta"]}, "devices of one kind"),
        ({"devices": "cpu,cpu", "device": "cpu"}, "not both"),
        ({"devices": ["cpu", "tpu:1"]}, "no device 'tpu:1' here"),
    ],
)
def test_what_cannot_be_is_one_line(options: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        dg.load("nano-base", **options)  # type: ignore[arg-type]


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")
@pytest.mark.parametrize("command", [["run", "Hi"], ["serve"], ["eval", "words", "--limit", "1"], ["doctor"]])
def test_no_gpu_is_one_line(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main([*command, "--devices", "cuda:0,cuda:1"])
    out = "".join(capsys.readouterr())
    assert left.value.code == 2 and "no device 'cuda:0' here" in out and "Traceback" not in out


# --- the same on several as on one ----------------------------------------------------------------------------------


def logits_of(model: dg.DiffusionGemma) -> torch.Tensor:
    ids = torch.arange(10, 330)[None]
    return model.denoise(torch.arange(50, 90)[None], model.encode(ids))


@pytest.mark.parametrize("scheme", [None, "int8", "int4", "fp8"])
def test_two_places_write_what_one_does(scheme: str | None) -> None:
    alone, spread = (dg.load("nano", devices=devices, quantize=scheme) for devices in (["cpu"], ["cpu", "cpu"]))
    assert alone.placement is None and spread.placement is not None
    assert set(spread.placement.layers) == {0, 1} and str(spread.placement).count("on cpu") == 2
    assert torch.equal(logits_of(alone), logits_of(spread))
    assert alone.generate("Name a bird.", **OPTIONS).text == spread.generate("Name a bird.", **OPTIONS).text


def test_packed_files_and_adapters_too(tmp_path: Path) -> None:
    base = load_model(BASE, torch.float32)
    add_lora(base, LoraConfig(rank=2), seed=5)
    for lora in adapters(base).values():
        lora.B.data.normal_(0, 0.2)
    save_adapter(base, tmp_path / "adapter", "nano-base")
    quantize(BASE, tmp_path / "packed", Scheme("mixed"))
    options = {"adapter": tmp_path / "adapter"}
    alone, spread = (dg.load(tmp_path / "packed", devices=["cpu"] * n, **options) for n in (1, 3))  # type: ignore[arg-type]
    assert spread.placement is not None and set(spread.placement.layers) == {0, 1, 2}
    assert torch.equal(logits_of(alone), logits_of(spread))
    assert not torch.equal(logits_of(alone), logits_of(dg.load(tmp_path / "packed")))


# --- what lies where, with devices that differ ------------------------------------------------------------------------

HALVES = Placement((CPU, META), (0, 0, 0, 1, 1, 1), 0)


def device_of(layer: nn.Module) -> set[torch.device]:
    return {tensor.device for tensor in (*layer.parameters(), *layer.buffers())}


def test_weights_caches_and_adapters_lie_with_their_layers(tmp_path: Path) -> None:
    config, tensors = open_checkpoint(BASE)
    model = built(config, tensors, None, HALVES)
    assert [device_of(layer) for layer in model.backbone.layers] == [{CPU}] * 3 + [{META}] * 3
    outside = [model.backbone.embed_tokens, model.backbone.norm, model.backbone.self_conditioning]
    assert all(device_of(module) == {CPU} for module in outside) and model.device == CPU
    assert [layer.keys.device for layer in model.new_sequence().layers] == [CPU] * 3 + [META] * 3
    whole = load_model(BASE)
    add_lora(whole, LoraConfig(rank=2, experts=True))
    save_adapter(whole, tmp_path, "nano-base")
    load_adapter(model, tmp_path)
    assert [device_of(layer) for layer in model.backbone.layers] == [{CPU}] * 3 + [{META}] * 3
    model.backbone.layers[4] = TwoModeLayer(model.backbone.layers[4])
    assert model.backbone.places == [CPU] * 3 + [META] * 3


def test_packed_weights_lie_with_their_layers() -> None:
    config, tensors = open_checkpoint(BASE)
    model = built(config, tensors, torch.float32, HALVES, Scheme("int4").packed)
    codes = [layer.mlp.gate_proj.packed.codes.device for layer in model.backbone.layers]  # type: ignore[union-attr]
    experts = [layer.experts.gate_up.codes.device for layer in model.backbone.layers]  # type: ignore[union-attr]
    assert codes == experts == [CPU] * 3 + [META] * 3


@pytest.mark.parametrize("outside", [0, 1, 2])
def test_no_product_mixes_devices(outside: int) -> None:
    devices = tuple(torch.device("cpu", i) for i in range(3))
    layers = (0, 0, 1, 1, 2, 2)
    model, alone = load_model(BASE, torch.float32), load_model(BASE, torch.float32)
    lay(model, Placement(devices, layers, outside))
    mode = Places()
    with mode:
        found, row = passes(model)
        assert row.length == 300
        for layer, number in zip(row.layers, layers, strict=True):
            assert layer.keys.device == layer.values.device == devices[number]
    assert all(place(one) == devices[outside] for one in found)
    assert all(torch.equal(one, other) for one, other in zip(found, passes(alone)[0], strict=True))
    assert {(devices[0], devices[1]), (devices[1], devices[2])} <= set(mode.crossed)


def passes(model: Model) -> tuple[list[torch.Tensor], SequenceCache]:
    """Hidden states of a prompt in two parts with an image in each, and of two canvases, one with a soft embedding."""
    ids = torch.arange(300).to(model.device)
    row = model.new_sequence()
    read = [model.encode_rows([row], [model.backbone.embed(part)], [[(3, 9)]]) for part in ids.split(150)]
    soft = model.backbone.soft_embedding(model.backbone.logits(read[0][:40]).softmax(-1))
    return [*read, model.denoise_rows([row, row.copy()], [ids[:40], ids[:30]], [soft, None])], row


def test_a_product_that_would_mix_devices_is_noticed() -> None:
    model = load_model(BASE, torch.float32)
    lay(model, Placement((torch.device("cpu:0"), torch.device("cpu:1")), (0,) * 5 + (1,), 0))
    put(model.backbone.layers[2].mlp.up_proj.weight, torch.device("cpu:1"))  # type: ignore[union-attr, arg-type]
    with Places(), pytest.raises(Mixed, match="linear"):
        passes(model)


def test_caches_fit_the_device_that_is_fullest(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = torch.device("cuda:0"), torch.device("cuda:1")
    places = [first] * 5 + [second]  # of the model the five sliding layers and the global one
    free = {first: 30 * 10**6, second: 20 * 10**6}
    model = load_model(BASE, torch.float32)
    monkeypatch.setattr(Backbone, "places", property(lambda self: places))
    monkeypatch.setattr(memory, "free_bytes", free.__getitem__)
    budget, tight = cache_budget(model), set()
    for tokens in (1, 100, 256, 1000, 4000, CONFIG.max_position_embeddings):
        layers = list(layer_bytes(model, tokens))
        count = budget / sum(layers)  # requests of this length that the budget admits
        assert count * sum(layers[:5]) <= free[first] and count * layers[5] <= free[second]
        tight |= {round(count * sum(layers[:5]) / free[first], 2), round(count * layers[5] / free[second], 2)}
    assert max(tight) > 0.98  # and no less than there is
