"""A layer's calls against its modules, which are the plain twin; a token's attention against torch's."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusiongemma.config import FULL, SLIDING, ModelConfig
from diffusiongemma.kernels import build, native
from diffusiongemma.kernels.native import attend_one, kernels
from diffusiongemma.model.backbone import Layer
from diffusiongemma.model.cache import in_eight_bits, in_full
from diffusiongemma.model.model import Model
from diffusiongemma.weights.lora import Lora, TwoModeLayer, attach
from diffusiongemma.weights.packed import int8
from diffusiongemma.weights.packed_layer import PackedLayer
from diffusiongemma.weights.packed_modules import PackedLinear, multiply_in_8_bits, put
from diffusiongemma.weights.schemes import Scheme

pytestmark = pytest.mark.skipif(kernels()[0] is None, reason="needs the compiled kernels")
HERE = [name for name in build.INSTRUCTION_SETS if native.NEEDS[name] <= native._processor()]
CONFIG = replace(
    ModelConfig(), vocab_size=96, hidden_size=80, intermediate_size=96, num_attention_heads=6, num_key_value_heads=2,
    head_dim=16, num_global_key_value_heads=1, global_head_dim=32, num_experts=9, top_k_experts=3,
    moe_intermediate_size=64, canvas_length=8, layer_types=(SLIDING, FULL), sliding_window=16,
)  # fmt: skip


@torch.no_grad()
def packed_model(dtype: torch.dtype = torch.float32) -> Model:
    torch.manual_seed(0)
    model = Model(CONFIG).to(dtype).requires_grad_(False).eval()
    for parameter in model.parameters():
        parameter.copy_(torch.randn(parameter.shape) * (parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 1))
    scheme = Scheme("int4")
    names = [(n, w) for n, w in model.named_parameters() if scheme.kind_of(n, w.shape[-1]) is not None]
    put(model, {name: scheme.packed(name, weight) for name, weight in names})
    model.backbone.layers[0].self_attn.k_proj = PackedLinear(int8(torch.randn(32, 80) / 9))  # rounded otherwise
    multiply_in_8_bits(model)
    return model


def passed(layer: Layer, x: Tensor) -> list[Tensor]:
    """What a layer gives, with attention left out."""
    width = layer.self_attn.head_dim
    angles = torch.arange(len(x) * width).view(len(x), width) * 0.1
    q, k, v = layer.before(x, (angles.cos().to(x.dtype), angles.sin().to(x.dtype)))
    return [q, k, v, layer.after(x, q.flatten(1), torch.tensor([0.7], dtype=x.dtype))]


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-3), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("kind", [0, 1])
def test_the_calls_are_what_the_modules_do(kind, dtype, tolerance):
    layer = packed_model(dtype).backbone.layers[kind]
    x = torch.randn(37, CONFIG.hidden_size).to(dtype)
    assert layer.by_kernels.projects(layer, x) and layer.by_kernels.finishes(layer, x)
    found = passed(layer, x)
    layer.by_kernels, layer.router.by_kernel = None, False
    for mine, plain in zip(found, passed(layer, x), strict=True):
        assert mine.dtype == dtype and mine.shape == plain.shape
        # The rounding of one activation may turn over, and of one token an expert.
        error = (mine.float() - plain.float()).norm(dim=-1) / plain.float().norm(dim=-1)
        assert error.median() < tolerance and error.mean() < 10 * tolerance


@pytest.mark.parametrize("kind", [0, 1])
def test_a_row_is_alike_in_any_company(kind):
    layer = packed_model().backbone.layers[kind]
    x = torch.randn(70, CONFIG.hidden_size)
    width = layer.self_attn.head_dim
    angles = torch.randn(70, width)
    q, k, v = layer.before(x, (angles.cos(), angles.sin()))
    out = layer.after(x, q.flatten(1), torch.ones(1))
    for part in (slice(0, 1), slice(3, 5), slice(9, 70)):
        found = layer.before(x[part], (angles[part].cos(), angles[part].sin()))
        assert all(map(torch.equal, found, (q[part], k[part], v[part])))
        assert torch.equal(layer.after(x[part], q[part].flatten(1), torch.ones(1)), out[part])


def test_all_instructions_round_alike(monkeypatch):
    x, model, found = torch.randn(21, CONFIG.hidden_size), packed_model(), []
    q, (keys, values) = torch.randn(8, 1, 48), torch.randn(2, 2, 600, 48)
    caches = [(keys, values), (keys.bfloat16(), values.bfloat16()), (in_eight_bits(keys), in_eight_bits(values))]
    for name in HERE:
        monkeypatch.setenv(native.VARIABLE, name)
        kernels.cache_clear()
        assert kernels()[1] == name
        with native.rows_alone():  # AMX, which multiplies bfloat16, leaves these to the others
            layers = [part for layer in model.backbone.layers for rows in (x, x[:1]) for part in passed(layer, rows)]
        found.append([*layers, *model.backbone.layers[0].router(x), *(attend_one(q, *cache) for cache in caches)])
    monkeypatch.undo()
    kernels.cache_clear()
    for name, one in zip(HERE, found, strict=True):
        assert all(map(torch.equal, one, found[-1])), name


def test_a_layer_with_an_adapter_runs_its_modules():
    """Beside a projection, beside the router, and not in another view of the same weights."""
    model = packed_model()
    layer, x = model.backbone.layers[0], torch.randn(5, CONFIG.hidden_size)
    before = passed(layer, x)
    for name in ("self_attn.q_proj", "mlp.down_proj", "router.proj"):
        owner = layer.get_submodule(name.rpartition(".")[0])
        leaf = name.rpartition(".")[2]
        base = getattr(owner, leaf)
        A, B = torch.randn(4, base.in_features), torch.randn(base.out_features, 4)
        attach(model, f"backbone.layers.0.{name}", Lora(A, B, 4, 8.0))
        assert not torch.equal(passed(layer, x)[-1], before[-1]), name
        setattr(owner, leaf, base)
        assert all(map(torch.equal, passed(layer, x), before))


def test_a_layer_of_two_views_shares_its_calls():
    layer, x = packed_model().backbone.layers[0], torch.randn(5, CONFIG.hidden_size)
    two = TwoModeLayer(layer)
    assert all(map(torch.equal, passed(two.encode, x), passed(two.denoise, x)))
    assert two.encode.by_kernels.finishes(two.encode, x)
    two.encode.mlp.gate_proj = nn.Linear(CONFIG.hidden_size, CONFIG.intermediate_size, bias=False)
    assert not two.encode.by_kernels.finishes(two.encode, x) and layer.by_kernels.finishes(layer, x)


def test_a_layer_that_is_not_packed_throughout_has_calls_for_what_is():
    model = packed_model()
    layer, x = model.backbone.layers[0], torch.randn(3, CONFIG.hidden_size)
    layer.mlp.up_proj = nn.Linear(CONFIG.hidden_size, CONFIG.intermediate_size, bias=False)
    calls = PackedLayer(layer)
    assert calls.projects(layer, x) and not calls.finishes(layer, x)
    assert not layer.by_kernels.finishes(layer, x)


@pytest.mark.parametrize(
    "heads, group, tokens, width", [(8, 2, 1025, 64), (2, 8, 300, 48), (1, 5, 1, 16), (3, 1, 256, 32)]
)
@pytest.mark.parametrize("kept", ["float32", "bfloat16", "int8"])
def test_a_token_attends_as_torch_does(heads, group, tokens, width, kept):
    torch.manual_seed(tokens)
    q = torch.randn(heads * group, 1, width) * 0.5
    cache = torch.randn(2, heads, tokens + 7, width)
    if kept == "int8":
        held = torch.stack([in_eight_bits(part) for part in cache])
        full = torch.stack([in_full(part, torch.float32) for part in held])
    else:
        held = cache.to(getattr(torch, kept))
        full = held.float()
    found = attend_one(q, *held[:, :, 4 : 4 + tokens])
    keys, values = full[:, None, :, 4 : 4 + tokens].double()
    expected = F.scaled_dot_product_attention(q[None].double(), keys, values, scale=1.0, enable_gqa=True)
    torch.testing.assert_close(found[0].double(), expected[0, :, 0], atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("eight_bits", [False, True])
def test_tokens_one_by_one_are_those_of_torch(eight_bits):
    """Beyond the window; and a sequence alone as beside one that takes several tokens at a time."""
    model = packed_model()
    model.eight_bit_cache = eight_bits
    ids = torch.randint(0, CONFIG.vocab_size, (40,))
    states = []
    for by_kernel, company in ((True, False), (True, True), (False, False)):
        row, other, found = model.new_sequence(), model.new_sequence(), []
        for cache in row.layers:
            cache.by_kernel &= by_kernel
        for token in ids:
            rows, inputs = [row], [model.backbone.embed(token[None])]
            if company:
                rows, inputs = [other, row], [model.backbone.embed(ids[:3]), *inputs]
            found.append(model.encode_rows(rows, inputs)[-1])
        states.append(torch.stack(found))
    kernel, beside, plain = states
    assert torch.equal(kernel, beside)
    error = (kernel - plain).norm(dim=-1) / plain.norm(dim=-1)
    assert error.median() < 2e-2
