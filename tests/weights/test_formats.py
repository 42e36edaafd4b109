"""Files in circulation: a model written by each format's own rules gives the logits of the same weights in full."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from compressed_tensors.compressors.nvfp4.helpers import pack_fp4_to_uint8
from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32
from reference import build
from safetensors.torch import load_file, save_file
from torch import Tensor

from diffusiongemma.errors import CheckpointError
from diffusiongemma.model.model import Model
from diffusiongemma.weights.checkpoint import load_model
from diffusiongemma.weights.packed import FP4
from diffusiongemma.weights.packed_modules import packed_of
from diffusiongemma.weights.saving import save_model

Tensors = dict[str, Tensor]
Packer = Callable[[Tensor], tuple[Tensors, Tensor]]  # weight [out, in] -> what the file holds, and what it stands for
E2M1 = torch.tensor(FP4)


def grouped(weight: Tensor, size: int) -> Tensor:
    return weight.unflatten(-1, (-1, size))


def ct_words(weight: Tensor, bits: int) -> tuple[Tensors, Tensor]:
    most = 2 ** (bits - 1) - 1
    groups = grouped(weight, 32)
    scales = (groups.abs().amax(-1, keepdim=True) / most).to(torch.bfloat16)
    codes = (groups / scales.float()).round().clamp(-most - 1, most)
    file = {"weight_packed": pack_to_int32(codes.flatten(-2).to(torch.int8), bits), "weight_scale": scales[..., 0]}
    return file | {"weight_shape": torch.tensor(weight.shape)}, (codes * scales.float()).flatten(-2)


def nearest_fp4(values: Tensor) -> Tensor:
    return E2M1[(values[..., None] - E2M1).abs().argmin(-1)]


def ct_nvfp4(weight: Tensor) -> tuple[Tensors, Tensor]:
    spread = torch.tensor([37.0])
    groups = grouped(weight, 16)
    scales = (groups.abs().amax(-1, keepdim=True) / 6 * spread).to(torch.float8_e4m3fn)
    values = nearest_fp4(groups / (scales.float() / spread))
    file = {"weight_packed": pack_fp4_to_uint8(values.flatten(-2)), "weight_scale": scales[..., 0]}
    file |= {"weight_global_scale": spread, "input_global_scale": torch.ones(1)}
    return file, (values * (scales.float() / spread)).flatten(-2)


def modelopt(weight: Tensor) -> tuple[Tensors, Tensor]:
    file, full = ct_nvfp4(weight)
    file = {"weight": file["weight_packed"], "weight_scale": file["weight_scale"]}
    return file | {"weight_scale_2": torch.tensor(1 / 37.0), "input_scale": torch.tensor(1.0)}, full


def fp8(weight: Tensor) -> tuple[Tensors, Tensor]:
    scales = weight.abs().amax(-1, keepdim=True) / 448
    codes = (weight / scales).to(torch.float8_e4m3fn)
    return {"weight": codes, "weight_scale": scales}, codes.float() * scales


def int8(weight: Tensor) -> tuple[Tensors, Tensor]:
    scales = weight.abs().amax(-1, keepdim=True) / 127
    codes = (weight / scales).round().to(torch.int8)
    return {"weight": codes, "weight_scale": scales}, codes.float() * scales


def gptq(weight: Tensor, stored: int = 7, symmetric: bool = True) -> tuple[Tensors, Tensor]:
    """Eight inputs to a word, outputs side by side; zeros are stored less one."""
    groups = grouped(weight, 64)
    scales = (groups.abs().amax(-1, keepdim=True) / 7).half()  # [out, groups, 1]
    zeros = torch.full(scales.shape, stored + 1.0)
    if not symmetric:
        zeros[::2] = 6.0
    codes = (groups / scales.float() + zeros).round().clamp(0, 15)
    flat = codes.flatten(-2).T.to(torch.int64)  # [in, out]
    words = sum(flat[k::8] << 4 * k for k in range(8))
    less = (zeros[..., 0] - 1).T.to(torch.int64)  # [groups, out]
    zero_words = sum(less[:, k::8] << 4 * k for k in range(8))
    file = {"qweight": signed(words), "qzeros": signed(zero_words), "scales": scales[..., 0].T.contiguous()}
    return file, ((codes - zeros) * scales.float()).flatten(-2)


def gptq_in_order(weight: Tensor) -> tuple[Tensors, Tensor]:
    """With the order of its inputs beside it, which is the plain one."""
    file, full = gptq(weight)
    return file | {"g_idx": torch.arange(weight.shape[1], dtype=torch.int32) // 64}, full


def gptq_asymmetric(weight: Tensor) -> tuple[Tensors, Tensor]:
    return gptq(weight, symmetric=False)


def signed(words: Tensor) -> Tensor:
    return (words - ((words >> 31) << 32)).to(torch.int32).contiguous()


def mlx(bits: int) -> Packer:
    def pack(weight: Tensor) -> tuple[Tensors, Tensor]:
        groups = grouped(weight, 64)
        low, high = groups.amin(-1, keepdim=True), groups.amax(-1, keepdim=True)
        scales, biases = ((high - low) / (2**bits - 1)).to(torch.bfloat16), low.to(torch.bfloat16)
        codes = ((groups - biases.float()) / scales.float()).round().clamp(0, 2**bits - 1)
        rows = codes.flatten(-2).to(torch.int64)
        stream = (rows[..., None] >> torch.arange(bits)) & 1  # lowest bits first, dense
        words = (stream.flatten(-2).unflatten(-1, (-1, 32)) << torch.arange(32)).sum(-1)
        file = {"weight": signed(words).view(torch.uint32), "scales": scales[..., 0], "biases": biases[..., 0]}
        return file, (codes * scales.float() + biases.float()).flatten(-2)

    return pack


CT = {"quantization_config": {"quant_method": "compressed-tensors"}}


def gptq_v2(weight: Tensor) -> tuple[Tensors, Tensor]:
    """Zeros are stored as they are."""
    file, full = gptq(weight, stored=7)
    file["qzeros"] = torch.full_like(file["qzeros"], 0x88888888 - 2**32)
    return file, full


FORMATS: dict[str, tuple[Packer, dict]] = {
    "ct-int4": (partial(ct_words, bits=4), CT),
    "ct-nvfp4": (ct_nvfp4, CT),
    "ct-fp8": (fp8, CT),
    "ct-int8": (int8, CT),
    "ct-int8-words": (partial(ct_words, bits=8), CT),
    "gptq-in-order": (gptq_in_order, {"quantization_config": {"quant_method": "gptq", "bits": 4}}),
    "modelopt": (modelopt, {"quantization_config": {"quant_method": "modelopt", "quant_algo": "NVFP4"}}),
    "auto-round": (gptq, {"quantization_config": {"quant_method": "auto-round", "bits": 4, "group_size": 64}}),
    "gptq-asymmetric": (gptq_asymmetric, {"quantization_config": {"quant_method": "gptq", "bits": 4}}),
    "gptq-v2": (gptq_v2, {"quantization_config": {"quant_method": "gptq", "checkpoint_format": "gptq_v2"}}),
    "mlx-4": (mlx(4), {"quantization": {"group_size": 64, "bits": 4, "mode": "affine"}}),
    "mlx-6": (mlx(6), {"quantization": {"group_size": 64, "bits": 6, "mode": "affine"}}),
    "mlx-8": (mlx(8), {"quantization": {"group_size": 64, "bits": 8, "mode": "affine"}}),
}
DENSE = re.compile(r"model\.decoder\..*(q_proj|k_proj|v_proj|o_proj|mlp\.\w+_proj)\.weight")
EXPERTS = re.compile(r"(model\.decoder\..*\.experts)\.(gate_up_proj|down_proj)")


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("released") / "model"
    sizes = dict(hidden_size=64, intermediate_size=128, moe_intermediate_size=64, head_dim=16, global_head_dim=32)
    build(5, **sizes).save_pretrained(directory)
    return directory


def files_of(directory: Path) -> Tensors:
    return {name: tensor for path in directory.glob("*.safetensors") for name, tensor in load_file(path).items()}


def written(tensors: Tensors, released: Path, directory: Path, config: dict) -> Path:
    directory.mkdir()
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, directory / "model.safetensors")
    raw = json.loads((released / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(raw | config))
    return directory


def packed_pair(released: Path, target: Path, kind: str, fused: bool = False) -> tuple[Path, Path]:
    """(a directory in a format, the same weights in full), experts one by one or as MLX fuses them."""
    pack, config = FORMATS[kind]
    file, full = {}, {}
    for name, tensor in files_of(released).items():
        if DENSE.fullmatch(name):
            parts, full[name] = pack(tensor)
            file |= {f"{name.removesuffix('.weight')}.{part}": value for part, value in parts.items()}
        elif match := EXPERTS.fullmatch(name):
            full[name] = torch.stack([pack(expert)[1] for expert in tensor])
            file |= fused_expert(match, tensor, pack) if fused else single_experts(match, tensor, pack)
        else:
            file[name] = full[name] = tensor
    return written(file, released, target / kind, config), written(full, released, target / "full", {})


def single_experts(match: re.Match[str], tensor: Tensor, pack: Packer) -> Tensors:
    found = {}
    for i, expert in enumerate(tensor):
        halves = {"down_proj": expert}
        if match[2] == "gate_up_proj":
            halves = dict(zip(("gate_proj", "up_proj"), expert.chunk(2), strict=True))
        for name, half in halves.items():
            found |= {f"{match[1]}.{i}.{name}.{part}": value for part, value in pack(half)[0].items()}
    return found


def fused_expert(match: re.Match[str], tensor: Tensor, pack: Packer) -> Tensors:
    halves = {"down_proj": tensor}
    if match[2] == "gate_up_proj":
        halves = dict(zip(("gate_proj", "up_proj"), tensor.chunk(2, dim=1), strict=True))
    return {
        f"{match[1]}.switch_glu.{name}.{part}": value
        for name, half in halves.items()
        for part, value in pack(half)[0].items()
    }


@torch.no_grad()
def logits(model: Model) -> Tensor:
    ids = torch.arange(1, 13)[None] * 7 % 97
    cache = model.encode(ids)
    first = model.denoise(ids[:, :8], cache)
    return model.denoise(ids[:, 4:12], cache, model.soft_embedding(first))


@pytest.mark.parametrize("kind", FORMATS)
def test_a_format_gives_the_logits_of_its_weights_in_full(released: Path, tmp_path: Path, kind: str) -> None:
    packed, full = packed_pair(released, tmp_path, kind)
    model = load_model(packed, torch.float32)
    assert (
        len(packed_of(model)) == 3 * 9 - 1
    )  # each layer's q, k, v, o, three of the MLP, two of the experts; no global v
    torch.testing.assert_close(logits(model), logits(load_model(full, torch.float32)), atol=1e-4, rtol=0)
    plain = logits(load_model(released, torch.float32))
    assert (logits(model) - plain).abs().max() > 1e-3  # it is the quantised weights that were compared


@pytest.mark.parametrize("kind", FORMATS)
def test_a_packed_model_is_saved_as_it_is(released: Path, tmp_path: Path, kind: str) -> None:
    packed, _ = packed_pair(released, tmp_path, kind)
    model = load_model(packed, torch.float32)
    save_model(model, tmp_path / "again", source=packed)
    again = load_model(tmp_path / "again", torch.float32)
    assert torch.equal(logits(again), logits(model))
    for name, weight in packed_of(again).items():
        assert weight.nbytes <= packed_of(model)[name].nbytes * 1.2, name


def test_what_modelopt_says_in_a_file_of_its_own(released: Path, tmp_path: Path) -> None:
    packed, full = packed_pair(released, tmp_path, "modelopt")
    raw = json.loads((packed / "config.json").read_text())
    (packed / "hf_quant_config.json").write_text(json.dumps({"quantization": raw.pop("quantization_config")}))
    (packed / "config.json").write_text(json.dumps(raw))
    model = load_model(packed, torch.float32)
    torch.testing.assert_close(logits(model), logits(load_model(full, torch.float32)), atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", ["mlx-4", "mlx-8"])
def test_experts_as_mlx_fuses_them(released: Path, tmp_path: Path, kind: str) -> None:
    packed, full = packed_pair(released, tmp_path, kind, fused=True)
    model = load_model(packed, torch.float32)
    torch.testing.assert_close(logits(model), logits(load_model(full, torch.float32)), atol=1e-4, rtol=0)


def changed(directory: Path, change: Callable[[Tensors], None], config: dict | None = None) -> Path:
    tensors = files_of(directory)
    change(tensors)
    save_file(tensors, directory / "model.safetensors")
    if config is not None:
        raw = json.loads((directory / "config.json").read_text())
        (directory / "config.json").write_text(json.dumps(raw | config))
    return directory


def drop(end: str) -> Callable[[Tensors], None]:
    def change(tensors: Tensors) -> None:
        del tensors[next(name for name in sorted(tensors) if name.endswith(end))]

    return change


def cut(end: str) -> Callable[[Tensors], None]:
    def change(tensors: Tensors) -> None:
        name = next(name for name in sorted(tensors) if name.endswith(end))
        tensors[name] = tensors[name][:-1].contiguous()

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (drop("experts.2.up_proj.weight_packed"), "experts.2.up_proj"),
        (drop("q_proj.weight_scale"), "q_proj.weight"),
        (cut("q_proj.weight_scale"), "q_proj"),
        (cut("down_proj.weight_packed"), "down_proj"),
    ],
)
def test_what_is_missing_or_cut_is_named(released: Path, tmp_path: Path, change: Callable, said: str) -> None:
    packed, _ = packed_pair(released, tmp_path, "ct-int4")
    with pytest.raises(CheckpointError, match=re.escape(said)) as error:
        load_model(changed(packed, change), torch.float32)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("method", "said"), [("awq", "awq"), ("bitsandbytes", "bfloat16"), ("new", "MLX or GGUF")])
def test_a_method_that_is_not_read_is_named_with_what_to_use(
    released: Path, tmp_path: Path, method: str, said: str
) -> None:
    packed, _ = packed_pair(released, tmp_path, "ct-int4")
    with pytest.raises(CheckpointError, match=said):
        load_model(changed(packed, lambda _: None, {"quantization_config": {"quant_method": method}}))


def test_inputs_in_another_order_are_refused(released: Path, tmp_path: Path) -> None:
    packed, _ = packed_pair(released, tmp_path, "gptq-in-order")

    def turn(tensors: Tensors) -> None:
        name = next(name for name in sorted(tensors) if name.endswith("mlp.down_proj.g_idx"))
        tensors[name] = tensors[name].flip(0)

    with pytest.raises(CheckpointError, match=r"down_proj .*desc_act"):
        load_model(changed(packed, turn))


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"quantization": {"group_size": 32, "bits": 4, "mode": "mxfp4"}}, r"MLX.s mode .mxfp4. .*affine"),
        ({"quantization_config": {"quant_method": "compressed-tensors", "format": "marlin-24"}}, "'marlin-24'"),
    ],
)
def test_a_layout_that_is_not_read_is_named(released: Path, tmp_path: Path, config: dict, said: str) -> None:
    raw = json.loads((released / "config.json").read_text()) | config
    (tmp_path / "config.json").write_text(json.dumps(raw))
    with pytest.raises(CheckpointError, match=said):
        load_model(tmp_path)
