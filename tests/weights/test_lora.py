"""LoRA: the same logits as PEFT on transformers' model, both ways; merging; and what unusable adapters say."""

from __future__ import annotations

import copy
import json
import warnings
from pathlib import Path

import pytest
import torch
from reference import build, new_cache, ours
from safetensors.torch import load_file, save_file
from transformers import DiffusionGemmaForBlockDiffusion

import diffusiongemma as dg
from diffusiongemma.model.layers import Router
from diffusiongemma.train.objective import Batch, Draw, Objective, loss
from diffusiongemma.weights import adapter
from diffusiongemma.weights.adapter import CONFIG, WEIGHTS, load_adapter, save_adapter
from diffusiongemma.weights.checkpoint import load_model
from diffusiongemma.weights.lora import LoraConfig, TwoModeLayer, adapters, add_lora, merge, unload
from diffusiongemma.weights.saving import save_model

TOLERANCE = 3e-5
LINEARS = r"(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj|router\.proj)"
DECODER, ENCODER = (
    rf"model\.decoder\.layers\.\d+\.{LINEARS}",
    rf"model\.encoder\.language_model\.layers\.\d+\.{LINEARS}",
)
SELF_CONDITIONING = r"model\.decoder\.self_conditioning\.(gate|up|down)_proj"
EXPERT_TENSORS = ["experts.gate_up_proj", "experts.down_proj"]


@pytest.fixture(scope="module")
def reference():
    return build(0)


@pytest.fixture(scope="module")
def base(reference, tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("base")
    ours(reference, directory)
    return directory


@pytest.fixture
def model(base):
    return load_model(base)


@pytest.fixture
def peft():
    return pytest.importorskip("peft")


def stir(parameters, seed: int = 0) -> None:
    """Give adapters values that change the logits visibly."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in parameters:
            parameter.normal_(0, 0.1, generator=generator)


def adapted(model, config: LoraConfig | None = None, seed: int = 0):
    add_lora(model, config or LoraConfig(rank=3), seed)
    stir((p for lora in adapters(model).values() for p in lora.parameters()), seed)
    return model


IDS, CANVAS = torch.arange(22).view(2, 11) * 7 % 97, torch.arange(16).view(2, 8) * 5 % 97
PREVIOUS = torch.randn(2, 8, 101, generator=torch.Generator().manual_seed(5))


@torch.no_grad()
def logits(model) -> torch.Tensor:
    """Ours, after a committed canvas: encode, encode, denoise with a soft embedding."""
    cache = model.encode(CANVAS, model.encode(IDS))
    return model.denoise(CANVAS.flip(1), cache, model.soft_embedding(PREVIOUS))


@torch.no_grad()
def their_logits(reference) -> torch.Tensor:
    cache = new_cache(reference)
    for ids in (IDS, CANVAS):
        reference.model.encoder(input_ids=ids, past_key_values=cache)
    return reference(decoder_input_ids=CANVAS.flip(1), past_key_values=cache, self_conditioning_logits=PREVIOUS).logits


def assert_same(actual: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(actual, expected, atol=TOLERANCE, rtol=0)


def put_on_theirs(reference, directory: Path, peft):
    """transformers' model with the adapter that PEFT reads from a directory, without a single warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("error", RuntimeWarning)
        return peft.PeftModel.from_pretrained(copy.deepcopy(reference), directory).base_model.model


def trained_by_peft(reference, peft, directory: Path, seed: int = 1, **options):
    """An adapter made and saved by PEFT, all its matrices different; returns the adapted model."""
    adapted = peft.get_peft_model(copy.deepcopy(reference), peft.LoraConfig(**({"r": 4, "lora_alpha": 6} | options)))
    stir((p for n, p in adapted.named_parameters() if "lora_" in n), seed)
    adapted.save_pretrained(directory)
    return adapted.base_model.model


# --- to PEFT --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("experts", [False, True])
def test_peft_computes_the_same_logits_from_what_is_saved_here(reference, model, tmp_path, peft, experts):
    plain = logits(model)
    adapted(model, LoraConfig(rank=3, alpha=5, experts=experts))
    save_adapter(model, tmp_path, "somebody/base")
    theirs = put_on_theirs(reference, tmp_path, peft)
    assert (logits(model) - plain).abs().max() > 0.5
    assert_same(logits(model), their_logits(theirs))
    assert json.loads((tmp_path / CONFIG).read_text())["base_model_name_or_path"] == "somebody/base"


@pytest.mark.parametrize(
    "config",
    [
        LoraConfig(targets=("attention",)),
        LoraConfig(targets=("self_conditioning", "router"), dropout=0.1),
        LoraConfig(targets=(), experts=True),
    ],
)
def test_peft_reads_parts_too(reference, model, tmp_path, peft, config):
    adapted(model, config).eval()
    save_adapter(model, tmp_path, "nano")
    assert_same(logits(model), their_logits(put_on_theirs(reference, tmp_path, peft)))


# --- from PEFT ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"target_modules": DECODER},
        {"target_modules": ENCODER},
        {"target_modules": f"{DECODER}|{ENCODER}|{SELF_CONDITIONING}", "use_rslora": True},
        {"target_modules": SELF_CONDITIONING, "target_parameters": EXPERT_TENSORS},
        {"target_modules": [], "target_parameters": ["encoder.language_model.layers.1.experts.down_proj"]},
        {"target_modules": "all-linear", "rank_pattern": {r"1.mlp.\w+": 2}, "alpha_pattern": {"q_proj": 9}},
    ],
    ids=["decoder", "encoder", "both, different, rslora", "experts", "one expert tensor", "all-linear, patterns"],
)
def test_adapters_trained_by_peft_give_the_same_logits(reference, model, tmp_path, peft, options):
    theirs = trained_by_peft(reference, peft, tmp_path / "theirs", **options)
    before = logits(model)
    load_adapter(model, tmp_path / "theirs")
    assert (logits(model) - before).abs().max() > 0.05
    assert_same(logits(model), their_logits(theirs))
    # Saved again, PEFT and this package still read the same.
    save_adapter(model, tmp_path / "again", "base")
    assert_same(their_logits(put_on_theirs(reference, tmp_path / "again", peft)), logits(model))
    assert load_file(tmp_path / "again" / WEIGHTS).keys() == load_file(tmp_path / "theirs" / WEIGHTS).keys()
    unload(model)
    assert torch.equal(logits(model), before) and not adapters(model)


@torch.no_grad()
def test_an_adapter_of_the_vision_tower(reference, model, tmp_path, peft):
    theirs = trained_by_peft(reference, peft, tmp_path, target_modules="all-linear")
    load_adapter(model, tmp_path)
    pixels, grid = torch.rand(16, 48), torch.tensor([[x, y] for y in range(4) for x in range(4)])
    expected = theirs.model.encoder.get_image_features(pixels[None], grid[None]).pooler_output
    assert_same(model.image_features(pixels, grid), expected.view(4, -1))


def test_different_adapters_per_mode_cannot_be_merged(reference, model, tmp_path, peft):
    trained_by_peft(reference, peft, tmp_path, target_modules=DECODER)
    load_adapter(model, tmp_path)
    before = logits(model)
    with pytest.raises(dg.InputError, match=r"backbone.layers.0 has different adapters to encode and to denoise"):
        merge(model)
    assert torch.equal(logits(model), before)


def test_equal_adapters_of_both_trees_are_one(reference, model, tmp_path, peft):
    """Merging then adds them once, where PEFT's own merging adds them twice to the weights that its trees share."""
    theirs = peft.get_peft_model(copy.deepcopy(reference), peft.LoraConfig(target_modules=f"{DECODER}|{ENCODER}"))
    matrices = {name: p for name, p in theirs.named_parameters() if "lora_" in name}
    stir(p for name, p in matrices.items() if "decoder" in name)
    with torch.no_grad():
        for name, parameter in matrices.items():
            parameter.copy_(matrices[name.replace("encoder.language_model", "decoder")])
    theirs.save_pretrained(tmp_path)
    load_adapter(model, tmp_path)
    assert not any(isinstance(module, TwoModeLayer) for module in model.modules())
    merge(model)
    assert_same(logits(model), their_logits(theirs.base_model.model))


# --- merging --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("experts", [False, True])
def test_a_merged_model_is_an_ordinary_checkpoint(model, base, tmp_path, experts):
    names = model.state_dict().keys()
    adapted(model, LoraConfig(experts=experts))
    expected = logits(model)
    merge(model)
    assert_same(logits(model), expected)
    assert model.state_dict().keys() == names and not adapters(model)
    save_model(model, tmp_path / "merged", source=base)
    theirs, info = DiffusionGemmaForBlockDiffusion.from_pretrained(tmp_path / "merged", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert_same(their_logits(theirs), expected)


def test_merging_leaves_the_checkpoint_file_alone(model, base):
    before = (base / "model.safetensors").read_bytes()
    merge(adapted(model))
    assert (base / "model.safetensors").read_bytes() == before


def test_new_adapters_change_nothing_and_unload_leaves_no_trace(model, base):
    before, state = logits(model), {n: t.clone() for n, t in model.state_dict().items()}
    names = add_lora(model, LoraConfig(experts=True))
    assert torch.equal(logits(model), before)
    assert len(names) == len(adapters(model)) == 3 * (4 + 3 + 1 + 2) - 1 + 3  # the global layer has no v_proj
    unload(model)
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(t, model.state_dict()[n]) for n, t in state.items())


# --- training -------------------------------------------------------------------------------------------------------


def test_gradients_reach_the_adapters_and_nothing_else(model):
    adapted(model, LoraConfig(rank=2, experts=True)).train()
    batch = Batch(IDS, torch.tensor([5, 9]), CANVAS, torch.ones_like(IDS, dtype=torch.bool))
    draw = Draw.sample(2, 8, 101, Objective(self_conditioning=1.0), torch.Generator().manual_seed(0))
    loss(model, batch, draw, Objective(self_conditioning=1.0)).total.backward()
    own = {id(p) for lora in adapters(model).values() for p in lora.parameters()}
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == (id(parameter) in own), name
        assert (parameter.grad is not None and bool(parameter.grad.any())) == (id(parameter) in own), name


def test_dropout_acts_in_training_only(model):
    adapted(model, LoraConfig(dropout=0.5))
    assert torch.equal(logits(model), logits(model))
    model.train()
    assert not torch.equal(logits(model), logits(model))


def test_loaded_adapters_are_frozen_unless_trainable(model, tmp_path):
    save_adapter(adapted(model), tmp_path, "nano")
    for trainable in (False, True):
        unload(model)
        load_adapter(model, tmp_path, trainable)
        trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        assert len(trained) == 2 * trainable * len(adapters(model))


def test_bfloat16_weights_keep_float32_adapters(base):
    model = adapted(load_model(base, torch.bfloat16))
    assert {p.dtype for lora in adapters(model).values() for p in lora.parameters()} == {torch.float32}
    unmerged = logits(model)
    merge(model)
    assert model.dtype == torch.bfloat16
    assert (logits(model) - unmerged).abs().mean() < 0.1


# --- files ----------------------------------------------------------------------------------------------------------


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.mark.parametrize("config", [LoraConfig(), LoraConfig(rank=2, alpha=1.5, experts=True), LoraConfig(dropout=0.2)])
def test_saving_loading_and_saving_keeps_every_byte(model, base, tmp_path, config):
    save_adapter(adapted(model, config), tmp_path / "one", "nano")
    again = load_model(base)
    load_adapter(again, tmp_path / "one")
    save_adapter(again, tmp_path / "two", "nano")
    assert files(tmp_path / "one") == files(tmp_path / "two")
    assert files(tmp_path / "one").keys() == {CONFIG, WEIGHTS}
    assert torch.equal(logits(again), logits(model.eval()))


def test_averaged_weights_are_saved_in_place_of_the_current_ones(model, base, tmp_path):
    adapted(model)
    average = {name: p.detach() * 0.5 for name, p in model.named_parameters() if p.requires_grad}
    save_adapter(model, tmp_path, "nano", average)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in average:
                parameter.copy_(average[name])
    again = load_model(base)
    load_adapter(again, tmp_path)
    assert torch.equal(logits(again), logits(model))


def test_the_same_seed_gives_the_same_adapters(model, base):
    add_lora(model, LoraConfig(), seed=3)
    other, third = load_model(base), load_model(base)
    add_lora(other, LoraConfig(), seed=3)
    add_lora(third, LoraConfig(), seed=4)
    name = "backbone.layers.1.mlp.up_proj"
    assert torch.equal(adapters(model)[name].A, adapters(other)[name].A)
    assert not torch.equal(adapters(model)[name].A, adapters(third)[name].A)


# --- load -----------------------------------------------------------------------------------------------------------


def test_load_takes_an_adapter_or_its_directory_as_the_model(model, base, tmp_path):
    save_adapter(adapted(model), tmp_path / "adapter", str(base))
    for loaded in (dg.load(base, adapter=tmp_path / "adapter"), dg.load(tmp_path / "adapter")):
        assert torch.equal(logits(loaded.network), logits(model))
        assert len(loaded.generate([5, 6, 7], steps=2, max_new_tokens=8, eos_token_ids=()).tokens) == 8
        with pytest.raises(dg.InputError, match="merge"):
            loaded.save_pretrained(tmp_path / "full")
    merge(loaded.network)
    loaded.save_pretrained(tmp_path / "full")
    assert_same(logits(load_model(tmp_path / "full")), logits(model))


@pytest.mark.parametrize(
    ("name", "options", "error", "words"),
    [
        ("", {}, dg.CheckpointError, "does not name its base model: load that model with adapter="),
        ("./gone", {}, dg.ModelNotFound, "its base model is not there: no model './gone'"),
        ("nano", {"adapter": "another"}, dg.InputError, "is an adapter itself"),
    ],
)
def test_an_adapter_without_its_base_says_so(model, tmp_path, name, options, error, words):
    save_adapter(adapted(model), tmp_path, name)
    with pytest.raises(error, match=words) as caught:
        dg.load(tmp_path, **options)
    assert "\n" not in str(caught.value)


# --- errors ---------------------------------------------------------------------------------------------------------

KEY = "base_model.model.model.decoder.layers.1.mlp.up_proj.lora_{}.weight"


def rename(tensors, old: str, new: str) -> None:
    for key in [key for key in tensors if old in key]:
        tensors[key.replace(old, new)] = tensors.pop(key)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.update({KEY.format("A"): torch.zeros(2, 32)}), ["mlp.up_proj", "2 and 3", "asks for 3"]),
        (lambda t: t.update({KEY.format("A"): torch.zeros(3, 64)}), ["mlp.up_proj", "64 -> 48", "32 -> 48"]),
        (lambda t: t.pop(KEY.format("B")), ["mlp.up_proj", "only one of lora_A and lora_B"]),
        (lambda t: rename(t, "layers.1.", "layers.7."), ["model.decoder.layers.7.", "no", "another architecture"]),
        (lambda t: t.update({"base_model.model.lm_head.weight": torch.zeros(2, 2)}), ["lm_head", "not a LoRA matrix"]),
        (lambda t: t.clear(), ["holds no adapter"]),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(model, base, tmp_path, change, words):
    save_adapter(adapted(model), tmp_path, "nano")
    tensors = load_file(tmp_path / WEIGHTS)
    change(tensors)
    save_file(tensors, tmp_path / WEIGHTS)
    plain = load_model(base)
    with pytest.raises(dg.CheckpointError) as caught:
        load_adapter(plain, tmp_path)
    assert all(word in str(caught.value) for word in [*words, WEIGHTS]) and "\n" not in str(caught.value)
    assert not adapters(plain) and not any(isinstance(module, TwoModeLayer) for module in plain.modules())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"peft_type": "IA3"}, "a IA3 adapter cannot be loaded, only LORA"),
        ({"peft_type": None}, "only LORA"),
        ({"use_dora": True}, "use_dora is true, only plain LoRA"),
        ({"bias": "all"}, 'bias is "all"'),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights"),
        ({"r": "eight"}, "r, lora_alpha or their patterns"),
        ({"rank_pattern": {"(": 3}}, "patterns"),
        ({"r": 5}, "asks for 5"),
    ],
)
def test_an_adapter_of_another_kind_is_refused(model, tmp_path, change, words):
    save_adapter(adapted(model), tmp_path, "nano")
    config = json.loads((tmp_path / CONFIG).read_text())
    (tmp_path / CONFIG).write_text(json.dumps(config | change))
    unload(model)
    with pytest.raises(dg.CheckpointError, match=words) as caught:
        load_adapter(model, tmp_path)
    assert "\n" not in str(caught.value) and CONFIG in str(caught.value)


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        (CONFIG, None, "adapter_config.json is missing"),
        (WEIGHTS, None, "adapter_model.safetensors is missing"),
        (CONFIG, b"{", "not readable JSON"),
        (WEIGHTS, b"junk", "not a readable safetensors file"),
    ],
)
def test_broken_directories_say_what_is_wrong(model, tmp_path, file, content, words):
    save_adapter(adapted(model), tmp_path, "nano")
    unload(model)
    (tmp_path / file).unlink() if content is None else (tmp_path / file).write_bytes(content)
    with pytest.raises(dg.CheckpointError, match=words) as caught:
        load_adapter(model, tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [{"rank": 0}, {"alpha": 0}, {"dropout": 1.0}, {"targets": ("vision",)}, {"targets": ()},
     {"experts": True, "dropout": 0.1}],
)  # fmt: skip
def test_settings_without_a_meaning_are_refused(options):
    with pytest.raises(dg.InputError):
        LoraConfig(**options)


def test_a_failed_save_keeps_the_adapter_that_was_there(model, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    save_adapter(adapted(model), tmp_path, "nano")
    before = files(tmp_path)
    monkeypatch.setattr(adapter, "save_file", full)
    with pytest.raises(dg.UserError, match="No space left"):
        save_adapter(model, tmp_path, "other")
    assert files(tmp_path) == before


def test_wrong_order_of_calls_says_what_to_do(model, tmp_path):
    with pytest.raises(dg.InputError, match="call add_lora or load_adapter first"):
        save_adapter(model, tmp_path, "nano")
    adapted(model)
    with pytest.raises(dg.InputError, match="call merge"):
        add_lora(model, LoraConfig())
    (tmp_path / "file").touch()
    with pytest.raises(dg.UserError, match="cannot write"):
        save_adapter(model, tmp_path / "file", "nano")


def test_a_quantised_layer_takes_an_adapter_and_refuses_to_merge(model):
    class Quantised(torch.nn.Module):
        def __init__(self, linear):
            super().__init__()
            self.in_features, self.out_features, self.codes = linear.in_features, linear.out_features, linear.weight

        def forward(self, x):
            return x @ self.codes.T

    for module in model.modules():
        if isinstance(module, Router):
            module.proj = Quantised(module.proj)
    before = logits(model)
    adapted(model)
    assert (logits(model) - before).abs().max() > 0.5
    with pytest.raises(dg.InputError, match=r"backbone.layers.0.router.proj is quantised"):
        merge(model)
