"""Quantising a model: which weights go in how few bits, files that others read, runs that were stopped."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from compressed_tensors.compressors.pack_quantized.helpers import unpack_from_int32
from compressed_tensors.quantization import QuantizationConfig
from safetensors.torch import load_file, save_file
from test_formats import logits
from torch import Tensor

import diffusiongemma as dg
from diffusiongemma.cli import main
from diffusiongemma.config import ModelConfig
from diffusiongemma.errors import CheckpointError, InputError
from diffusiongemma.weights import quantize as module
from diffusiongemma.weights.adapter import save_adapter
from diffusiongemma.weights.checkpoint import load_model
from diffusiongemma.weights.locate import ASSETS
from diffusiongemma.weights.lora import LoraConfig, adapters, add_lora, merge
from diffusiongemma.weights.packed import Groups, Packed, int4
from diffusiongemma.weights.packed_modules import packed_of
from diffusiongemma.weights.quantize import PROGRESS, quantize
from diffusiongemma.weights.saving import save_model
from diffusiongemma.weights.schemes import KINDS, MAKERS, Scheme, fitted_int4, role_of

NANO = ASSETS / "nano"
LAYERS = ModelConfig.from_file(NANO / "config.json").num_layers
PARTS = LAYERS + 1  # files: one for each layer, and one for the rest
PROMPT = "Tell me the color of an emerald."


@pytest.fixture(scope="module")
def quantised(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("quantised")

    def of(scheme: str) -> Path:
        if not (folder / scheme).exists():
            quantize(NANO, folder / scheme, Scheme(scheme))
        return folder / scheme

    return of


def tensors_of(directory: Path) -> dict[str, Tensor]:
    return {name: tensor for path in directory.glob("*.safetensors") for name, tensor in load_file(path).items()}


@pytest.mark.parametrize("scheme", KINDS)
def test_each_role_has_its_bits_and_the_logits_are_those_of_the_weights(quantised: Callable, scheme: str) -> None:
    model, full = load_model(quantised(scheme), torch.float32), load_model(NANO, torch.float32)
    plain, packed = logits(full), packed_of(model)
    assert {(role_of(name), weight.kind) for name, weight in packed.items()} == set(KINDS[scheme].items())
    for name, weight in packed.items():
        full.get_parameter(name).data = weight.unpack()
    torch.testing.assert_close(logits(model), logits(full), atol=2e-4, rtol=0)  # of up to 30
    assert (logits(model) - plain).abs().max() > 1e-3  # it is the quantised weights that were compared
    said = json.loads((quantised(scheme) / "config.json").read_text())
    assert said["packing"]["scheme"] == scheme and said["packing"]["roles"] == KINDS[scheme]


def test_what_decides_stays_as_it_is(quantised: Callable) -> None:
    own, files = tensors_of(NANO), tensors_of(quantised("int4"))
    untouched = {name: tensor for name, tensor in own.items() if role_of(name) is None}
    assert sum("router" in name for name in untouched) == 3 * LAYERS and sum("norm" in name for name in untouched) > 40
    for name, tensor in untouched.items():
        assert torch.equal(files[name], tensor), name


def test_a_role_may_be_kept(tmp_path: Path) -> None:
    quantize(NANO, tmp_path / "kept", Scheme("int8", keep=("embedding",)))
    name = "model.decoder.embed_tokens.weight"
    assert torch.equal(tensors_of(tmp_path / "kept")[name], tensors_of(NANO)[name])
    config = json.loads((tmp_path / "kept" / "config.json").read_text())
    assert config["packing"]["kept"] == ["router", "norms", "embedding"]
    assert not any("embed_tokens" in t for g in config["quantization_config"]["config_groups"].values() for t in g)


def test_scales_are_fitted() -> None:
    weight = torch.randn(64, 128, generator=torch.Generator().manual_seed(0))
    fitted, plain = ((one.unpack() - weight).norm() for one in (fitted_int4(weight), int4(weight)))
    assert fitted < 0.87 * plain
    assert torch.equal(fitted_int4(torch.zeros(2, 32)).unpack(), torch.zeros(2, 32))
    levels = torch.arange(-7, 8).float().repeat(3)[:32].repeat(4, 1)
    assert torch.equal(fitted_int4(levels).unpack(), levels)
    one_sided = torch.arange(-8, 8).float().repeat(4, 2)
    for weight in (one_sided, -one_sided):
        assert torch.equal(fitted_int4(weight).unpack(), weight)


def test_rows_that_do_not_divide_into_groups_take_eight_bits() -> None:
    assert Scheme("int4").kind_of("layers.0.mlp.up_proj.weight", 96) == "int4"
    assert Scheme("int4").kind_of("layers.0.mlp.up_proj.weight", 40) == "int8"


@pytest.mark.parametrize("scheme", ["int4", "mixed"])
def test_compressed_tensors_reads_the_same_weights(quantised: Callable, scheme: str) -> None:
    files, packed = tensors_of(quantised(scheme)), packed_of(load_model(quantised(scheme), torch.float32))
    config = QuantizationConfig.model_validate(
        json.loads((quantised(scheme) / "config.json").read_text())["quantization_config"]
    )
    groups = {group.format: group for group in config.config_groups.values()}
    checked = 0
    for name, codes in files.items():
        if name.endswith(".weight_packed"):
            base = name.removesuffix(".weight_packed")
            group = groups["pack-quantized"]
            assert any(re.match(target.removeprefix("re:"), base) for target in group.targets), base
            assert (group.weights.num_bits, group.weights.group_size, group.weights.symmetric) == (4, 32, True)
            whole = unpack_from_int32(codes, 4, torch.Size(files[f"{base}.weight_shape"].tolist())).float()
            theirs = whole * files[f"{base}.weight_scale"].float().repeat_interleave(32, 1)
            assert torch.equal(theirs, ours(packed, base)), base
            checked += 1
    assert checked >= LAYERS * 4 * 3


def ours(packed: dict[str, Packed], base: str) -> Tensor:
    base = base.replace("model.decoder", "backbone")
    match = re.fullmatch(r"(.*\.experts)\.(\d+)\.(gate|up|down)_proj", base)
    if match is None:
        return packed[f"{base}.weight"].unpack()
    if match[3] == "down":
        return packed[f"{match[1]}.down_proj"][int(match[2])].unpack()
    return packed[f"{match[1]}.gate_up_proj"][int(match[2])].unpack().chunk(2)[match[3] == "up"]


def test_experts_of_a_layer_are_one_view_of_the_file(quantised: Callable) -> None:
    packed = packed_of(load_model(quantised("mixed")))
    for name in ("gate_up_proj", "down_proj"):
        weight = packed[f"backbone.layers.0.experts.{name}"]
        assert isinstance(weight, Groups) and weight.codes.is_contiguous() and weight.codes.ndim == 3
        file = quantised("mixed") / f"model-00001-of-{PARTS:05}.safetensors"
        assert weight.codes.untyped_storage().nbytes() == file.stat().st_size


def test_no_more_than_one_expert_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setitem(MAKERS, "int4", lambda w: (seen.append(w.shape), fitted_int4(w))[1])
    quantize(NANO, tmp_path / "out", Scheme("mixed"))
    assert set(seen) == {(128, 128), (128, 64)}  # nano's gate and up, and down


class Stopped(Exception):
    pass


def test_a_run_that_was_stopped_goes_on(tmp_path: Path, quantised: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(done: int, of: int) -> None:
        if done == 3:
            raise Stopped

    with pytest.raises(Stopped):
        quantize(NANO, tmp_path / "out", Scheme("mixed"), stop)
    with pytest.raises(CheckpointError, match=r"config\.json is missing"):
        dg.load(tmp_path / "out")
    with pytest.raises(InputError, match="another model or scheme"):
        quantize(NANO, tmp_path / "out", Scheme("int8"))
    packed, heard = [], []
    real = module._packed_part
    monkeypatch.setattr(module, "_packed_part", lambda *args: (packed.append(args[1]), real(*args))[1])
    changes = quantize(NANO, tmp_path / "out", Scheme("mixed"), lambda done, of: heard.append((done, of)))
    assert len(packed) == PARTS - 3 and heard == [(done, PARTS) for done in range(3, PARTS + 1)]
    whole = quantised("mixed")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {path.name for path in whole.iterdir()}
    for path in whole.iterdir():
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes(), path.name
    assert len(changes) == len(tensors_of(NANO)) and not (tmp_path / "out" / PROGRESS).exists()
    with pytest.raises(InputError, match="in use"):
        quantize(NANO, tmp_path / "out", Scheme("mixed"))


@pytest.mark.parametrize("scheme", ["mixed", "fp8"])
def test_quantising_while_loading_is_the_same(quantised: Callable, tmp_path: Path, scheme: str) -> None:
    model = dg.load("nano", quantize=scheme, activations="full")
    assert torch.equal(logits(model.network), logits(load_model(quantised(scheme), torch.float32)))
    model.save_pretrained(tmp_path / "saved")
    assert torch.equal(logits(dg.load(tmp_path / "saved", activations="full").network), logits(model.network))
    with pytest.raises(InputError, match="scheme is 'int3': choose int8"):
        dg.load("nano", quantize="int3")


@pytest.mark.parametrize("scheme", KINDS)
def test_seeded_text_is_the_same_alone_and_in_a_batch(quantised: Callable, scheme: str) -> None:
    model = dg.load(quantised(scheme))
    prompts = [PROMPT, "In the morning, Jack", "Write: the cat sat on the mat", "2 + 3", "Sort: 5 2 9"]
    seeds = [3, 1, 4, 1, 5]
    together = model.generate(prompts, seed=seeds, max_new_tokens=32)
    for prompt, seed, result in zip(prompts, seeds, together, strict=True):
        alone = model.generate(prompt, seed=seed, max_new_tokens=32)
        assert (alone.tokens, alone.steps, alone.logprobs) == (result.tokens, result.steps, result.logprobs)


def test_offsets_are_added_and_the_low_half_comes_first(tmp_path: Path) -> None:
    """What this package alone has names for: codes with offsets."""
    model = load_model(NANO, torch.float32)
    name = "backbone.layers.0.mlp.up_proj"
    codes = torch.randint(0, 256, (256, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    scales, offsets = torch.rand(256, 4).bfloat16(), torch.rand(256, 4)
    module = Groups("int4", codes, scales, offsets)
    from diffusiongemma.weights.packed_modules import put

    put(model, {f"{name}.weight": module})
    save_model(model, tmp_path / "saved", source=NANO)
    read = packed_of(load_model(tmp_path / "saved"))[f"{name}.weight"].unpack()
    assert read[3, 0] == float(codes[3, 0] & 15) * scales[3, 0].float() + offsets[3, 0]
    assert read[3, 1] == float(codes[3, 0] >> 4) * scales[3, 0].float() + offsets[3, 0]
    assert read[3, 127] == float(codes[3, 63] >> 4) * scales[3, 3].float() + offsets[3, 3]


def test_files_of_ours_that_are_broken_are_named(quantised: Callable, tmp_path: Path) -> None:
    def changed(change: Callable[[dict[str, Tensor]], None]) -> Path:
        tensors = tensors_of(quantised("mixed"))
        change(tensors)
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        save_file(tensors, folder / "model.safetensors")
        (folder / "config.json").write_bytes((quantised("mixed") / "config.json").read_bytes())
        return folder

    up = "model.decoder.layers.0.mlp.up_proj"
    blocks = {f"{up}.weight_blocks_q9_z": torch.zeros(256, 34, dtype=torch.uint8)}
    with pytest.raises(CheckpointError, match=r"up_proj\.weight_blocks_q9_z .* is no rows of Q9_Z"):
        load_model(changed(lambda t: (t.pop(f"{up}.weight"), t.pop(f"{up}.weight_scale"), t.update(blocks))))
    with pytest.raises(CheckpointError, match=r"up_proj.*expected float8_e4m3fn or int8"):
        load_model(changed(lambda t: t.update({f"{up}.weight": torch.zeros(256, 128, dtype=torch.int16)})))


# --- commands -------------------------------------------------------------------------------------------------------


def command(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    return int(left.value.code or 0), said.out, said.err


def test_the_command_quantises_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("nano", tmp_path / "out", "--report", "--questions", 1, "--json")
    code, out, _ = command(capsys, "quantize", *arguments)
    assert code == 0
    said = json.loads(out)
    assert said["scheme"] == "mixed" and {task["task"] for task in said["tasks"]} == {"sudoku", "extraction", "repair"}
    parts = {part["role"]: part for part in said["parts"]}
    assert parts["experts"]["kinds"] == "int4" and 0.05 < parts["experts"]["error"] < 0.12
    assert parts["mlp"]["kinds"] == "int8" and 0.001 < parts["mlp"]["error"] < 0.02
    before = sum(tensor.nbytes for tensor in tensors_of(NANO).values())
    assert sum(part["bytes_before"] for part in parts.values()) == before
    seen = parts["rest"]["bytes_before"]  # the tower stays as it is
    assert sum(part["bytes_after"] for part in parts.values()) - seen < 0.5 * (before - seen)
    code, _, err = command(capsys, "quantize", *arguments)
    assert code == 2 and "is in use" in err and err.count("\n") == 1
    code, _, err = command(capsys, "quantize", "nano", tmp_path / "b", "--scheme", "int3")
    assert code == 2 and "--scheme is 'int3': choose" in err and not (tmp_path / "b").exists()


def test_the_command_exports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "nano.gguf"
    code, out, _ = command(capsys, "export", "nano", "--gguf", path, "--type", "F32")
    assert code == 0 and "nano.gguf: " in out and "without the vision tower" in out
    assert dg.load(path).generate(PROMPT, seed=7).text == dg.load("nano").generate(PROMPT, seed=7).text
    for arguments, words in (
        (("nano",), "give --gguf FILE"),
        (("nano", "--gguf", path), "exists"),
        (("nano", "--gguf", tmp_path / "b.gguf", "--type", "Q7"), "--type is 'Q7': choose BF16"),
    ):
        code, _, err = command(capsys, "export", *arguments)
        assert code == 2 and words in err


# --- what packed weights are not for --------------------------------------------------------------------------------


def test_packed_weights_are_not_trained_nor_merged_into(tmp_path: Path, quantised: Callable) -> None:
    packed = dg.load(quantised("mixed"))
    with pytest.raises(InputError, match="in few bits: train the full-precision model"):
        add_lora(packed.network, LoraConfig())
    data = tmp_path / "chats.jsonl"
    turns = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]
    data.write_text(json.dumps({"messages": turns}) + "\n")
    for rank in ("0", "8"):
        with pytest.raises(SystemExit) as left:
            main(["train", "sft", "--data", str(data), "--out", str(tmp_path / "out"), "--model",
                  str(quantised("mixed")), "--lora", rank, "--steps", "1"])  # fmt: skip
        assert left.value.code == 2 and not (tmp_path / "out").exists()


def test_an_adapter_runs_beside_packed_weights(tmp_path: Path, quantised: Callable) -> None:
    full = load_model(NANO, torch.float32)
    add_lora(full, LoraConfig())
    for number, lora in enumerate(adapters(full).values()):
        lora.B.data.normal_(0, 0.02, generator=torch.Generator().manual_seed(number))
    save_adapter(full, tmp_path / "adapter", "nano")
    model = dg.load(quantised("int8"), adapter=tmp_path / "adapter", activations="full").network
    bare = logits(load_model(quantised("int8"), torch.float32))
    for name, weight in packed_of(model).items():
        place = name.replace("proj.weight", "proj.base_layer.weight")
        full.get_parameter(place if place in dict(full.named_parameters()) else name).data = weight.unpack()
    torch.testing.assert_close(logits(model), logits(full), atol=1e-3, rtol=0)
    assert (logits(model) - bare).abs().max() > 0.05
    with pytest.raises(InputError, match="is quantised: merge into the unquantised model"):
        merge(model)
