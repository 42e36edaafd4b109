"""Checkpoint files: to transformers and back, and what broken ones say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from reference import build, ours
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import DiffusionGemmaConfig, DiffusionGemmaForBlockDiffusion

import diffusiongemma as dg
from diffusiongemma.config import ModelConfig
from diffusiongemma.diffusion.decoding import Decoding
from diffusiongemma.errors import CheckpointError
from diffusiongemma.weights import saving
from diffusiongemma.weights.checkpoint import load_model
from diffusiongemma.weights.generation import load_decoding
from diffusiongemma.weights.saving import save_model


@pytest.fixture
def saved(tmp_path) -> Path:
    """A directory written by transformers, in bfloat16."""
    directory = tmp_path / "theirs"
    build(0).to(torch.bfloat16).save_pretrained(directory)
    return directory


def tensors(directory: Path) -> dict[str, torch.Tensor]:
    return {name: t for path in directory.glob("*.safetensors") for name, t in load_file(path).items()}


@pytest.mark.parametrize("dtype", [None, torch.float32])
@pytest.mark.parametrize("shard_bytes", [5 * 10**9, 20_000])
def test_load_and_save_keeps_every_byte(saved, tmp_path, monkeypatch, dtype, shard_bytes):
    monkeypatch.setattr(saving, "SHARD_BYTES", shard_bytes)
    save_model(load_model(saved, dtype), tmp_path / "ours", source=saved)
    before, after = tensors(saved), tensors(tmp_path / "ours")
    assert before.keys() == after.keys()
    assert all(before[n].dtype == after[n].dtype and before[n].equal(after[n]) for n in before)
    assert (tmp_path / "ours" / "config.json").read_text() == (saved / "config.json").read_text()
    again = load_model(tmp_path / "ours")  # also reads an index of many files
    assert (len(list((tmp_path / "ours").glob("*.safetensors"))) > 1) == (shard_bytes == 20_000)
    assert again.state_dict().keys() == load_model(saved).state_dict().keys()


@torch.no_grad()
def test_transformers_loads_what_is_saved_from_our_own_config(tmp_path):
    model = ours(build(1), tmp_path / "theirs")
    save_model(model, tmp_path / "ours", Decoding.of(steps=7, entropy_bound=0.3, eos_token_ids=(1, 5)))
    reference, info = DiffusionGemmaForBlockDiffusion.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    assert reference.generation_config.max_denoising_steps == 7
    assert reference.generation_config.sampler_config.entropy_bound == 0.3
    ids, canvas = torch.randint(0, 97, (2, 9)), torch.randint(0, 97, (2, 8))
    expected = reference(input_ids=ids, decoder_input_ids=canvas).logits
    torch.testing.assert_close(model.denoise(canvas, model.encode(ids)), expected, atol=3e-5, rtol=0)
    generation = load_decoding(tmp_path / "ours", model.config)
    assert (generation.steps, generation.sampler.bound, generation.eos_token_ids) == (7, 0.3, (1, 5))


def test_config_round_trip():
    for config in (ModelConfig(), ModelConfig.from_hf(ModelConfig().to_hf())):
        assert ModelConfig.from_hf(json.loads(json.dumps(config.to_hf()))) == config
    # The figures of the released model.
    assert (config.hidden_size, config.num_layers, config.num_experts, config.canvas_length) == (2816, 30, 128, 256)


def test_weights_are_memory_mapped(tmp_path):
    """Loading holds the weights about once: the whole process grows by little more than the file."""
    big = build(0, hidden_size=512, intermediate_size=2048, moe_intermediate_size=4096, num_experts=8)
    big.save_pretrained(tmp_path)
    size = sum(p.stat().st_size for p in tmp_path.glob("*.safetensors"))
    assert size > 250e6
    script = (
        "import resource, sys, pathlib, torch\n"
        "from diffusiongemma.weights.checkpoint import load_model\n"
        "from diffusiongemma.model.vision import Vision; import transformers.models.gemma4.modeling_gemma4\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "model = load_model(pathlib.Path(sys.argv[1]))\n"
        "total = sum(float(t.float().sum()) for t in model.state_dict().values())\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    output = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    unit = 1024 if sys.platform != "darwin" else 1
    assert int(output.stdout) * unit < 1.15 * size


def rewrite(directory: Path, change) -> None:
    path = directory / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, {"format": "pt"})


NAME = "model.decoder.layers.1.mlp.up_proj.weight"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop(NAME), [NAME, "missing"]),
        (lambda t: t.update({"model.decoder.layers.1.odd": torch.ones(1)}), ["model.decoder.layers.1.odd", "not part"]),
        (lambda t: t.update({NAME: t[NAME][:, :-1].contiguous()}), [NAME, "model.safetensors", "(48, 31)", "(48, 32)"]),
        (
            lambda t: t.update({"lm_head.weight": t["model.decoder.embed_tokens.weight"] + 1}),
            ["lm_head.weight", "differs"],
        ),
    ],
)
def test_a_wrong_tensor_is_named(saved, change, words):
    rewrite(saved, change)
    with pytest.raises(CheckpointError) as caught:
        load_model(saved)
    assert all(word in str(caught.value) for word in words) and "\n" not in str(caught.value)


def test_the_vision_tower_is_read_when_it_is_asked_for(saved):
    """Text needs none of it; what is wrong with it is named when an image comes."""
    name = next(name for name in load_file(saved / "model.safetensors") if "vision_tower" in name)
    whole = load_model(saved)
    assert not any(n.startswith("vision.") for n in whole.state_dict())
    assert whole.vision is whole.vision and any(n.startswith("vision.") for n in whole.state_dict())
    rewrite(saved, lambda tensors: tensors.pop(name))
    broken = load_model(saved)
    broken.encode(torch.tensor([[2, 3]]))
    with pytest.raises(CheckpointError, match=name):
        _ = broken.vision


def test_tied_copies_are_accepted(saved):
    rewrite(saved, lambda t: t.update({"lm_head.weight": t["model.decoder.embed_tokens.weight"].clone()}))
    load_model(saved)


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("model.safetensors", b"junk", "not a readable safetensors"),
        ("model.safetensors", None, "is missing"),
        ("config.json", b"{oops", "not readable JSON"),
        ("config.json", b"[]", "expected an object"),
        ("config.json", b'{"model_type": "llama"}', "'llama'"),
        ("config.json", b'{"model_type": "diffusion_gemma", "text_config": {}}', "incomplete"),
        ("generation_config.json", b'{"max_denoising_steps": -3}', "steps"),
        ("model.safetensors.index.json", b'{"weight_map": {"a": "absent.safetensors"}}', "absent"),
        ("tokenizer.json", b"{}", "tokenizer"),
    ],
)
def test_broken_directories_say_what_is_wrong(saved, file, content, words):
    if content is None:
        (saved / file).unlink()
    else:
        (saved / file).write_bytes(content)
    with pytest.raises(dg.UserError, match=words) as caught:
        dg.load(saved)
    assert "\n" not in str(caught.value)


def test_a_truncated_file_is_refused(saved):
    path = saved / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-999])
    with pytest.raises(CheckpointError, match="not a readable safetensors"):
        load_model(saved)


def test_nothing_is_left_when_saving_fails(saved, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    model = load_model(saved)
    monkeypatch.setattr(saving, "write_safetensors", full)
    with pytest.raises(dg.UserError, match="No space left"):
        save_model(model, tmp_path / "out", source=saved)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["theirs"]


def test_without_tokenizer_files_ids_still_work(saved):
    model = dg.load(saved)
    assert model.tokenizer is None
    result = model.generate([5, 6, 7], steps=3, max_new_tokens=8, eos_token_ids=())
    assert len(result.tokens) == 8 and result.text == ""
    with pytest.raises(dg.InputError, match="no tokenizer"):
        model.generate("text")
    with pytest.raises(dg.InputError, match="outside the vocabulary"):
        model.generate([5, 101])
    with pytest.raises(dg.InputError, match="outside the vocabulary"):
        model.encode(torch.tensor([[5, -1]]))


@pytest.mark.parametrize("name", ["no-such-model", "./nowhere", "a/b/c", "", "x" * 5000])
def test_unknown_models_say_what_to_do(name):
    with pytest.raises(dg.ModelNotFound, match="or a hub id") as caught:
        dg.load(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("options", [dict(device="cuda:77"), dict(device="tea"), dict(dtype="int8"), dict(dtype="tea")])
def test_unknown_devices_and_dtypes_are_one_line(options):
    with pytest.raises(dg.InputError, match="give auto") as caught:
        dg.load("nano", **options)
    assert "\n" not in str(caught.value)


def test_a_hub_id_without_a_network_is_one_line(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(dg.ModelNotFound, match="cannot download google/none") as caught:
        dg.load("google/none")
    assert "\n" not in str(caught.value)


def test_nothing_is_unpickled(saved):
    with safe_open(saved / "model.safetensors", "pt") as file:
        assert file.keys()
    (saved / "pytorch_model.bin").write_bytes(b"not read")
    load_model(saved)


@pytest.mark.parametrize("number", ["{}", "{:02}"])
def test_layers_are_known_however_transformers_numbers_them(number):
    """Of many layers it numbers them with leading zeros."""
    expected = ModelConfig()
    raw = DiffusionGemmaConfig.from_dict(expected.to_hf()).to_dict()
    heads = {"num_key_value_heads": expected.heads(5)[0], "head_dim": expected.heads(5)[1]}
    raw["text_config"]["per_layer_config"] = {number.format(layer): heads for layer in range(5, 30, 6)}
    assert [ModelConfig.from_hf(raw).heads(i) for i in range(30)] == [expected.heads(i) for i in range(30)]
