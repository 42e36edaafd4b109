"""Logits equal transformers' on random small configurations, over several committed canvases."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reference import build, new_cache, ours

from diffusiongemma.chat import Prompt
from diffusiongemma.diffusion.decoding import Decoding
from diffusiongemma.engine.generation import Generation
from diffusiongemma.engine.request import Request
from diffusiongemma.media import ImageInput
from diffusiongemma.model import model as model_module
from diffusiongemma.model.cache import BLOCK, KVCache

TOLERANCE = 6e-5


@st.composite
def shapes(draw):
    kv_heads = draw(st.sampled_from([1, 2, 4]))
    layers = draw(st.lists(st.sampled_from(["sliding_attention", "full_attention"]), min_size=0, max_size=3))
    experts = draw(st.integers(1, 6))
    text = dict(
        num_hidden_layers=len(layers) + 1,
        layer_types=[*layers, "full_attention"],
        num_attention_heads=4,
        num_key_value_heads=kv_heads,
        num_global_key_value_heads=draw(st.sampled_from([1, 2, 4])),
        head_dim=draw(st.sampled_from([8, 16])),
        global_head_dim=draw(st.sampled_from([16, 32])),
        sliding_window=draw(st.integers(2, 40)),
        num_experts=experts,
        top_k_experts=draw(st.integers(1, experts)),
        use_bidirectional_attention=draw(st.sampled_from([None, "vision"])),
    )
    return text, draw(st.integers(1, 16)), draw(st.integers(1, 3)), draw(st.integers(1, 30)), draw(st.integers(0, 999))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(shapes(), st.booleans())
def test_three_canvases_equal_the_reference(shape, self_conditioned):
    text, canvas_length, batch, prompt_length, seed = shape
    reference = build(seed, canvas_length, **text)
    with tempfile.TemporaryDirectory() as directory:
        model = ours(reference, Path(directory))
        ids = torch.randint(0, 97, (batch, prompt_length))
        theirs, mine = new_cache(reference), None
        with torch.no_grad():
            for _ in range(3):
                reference.model.encoder(input_ids=ids, past_key_values=theirs)
                mine = model.encode(ids, mine)
                canvas = torch.randint(0, 97, (batch, canvas_length))
                logits = torch.randn(batch, canvas_length, 101) if self_conditioned else None
                expected = reference(
                    decoder_input_ids=canvas, past_key_values=theirs, self_conditioning_logits=logits
                ).logits
                soft = model.soft_embedding(logits) if logits is not None else None
                torch.testing.assert_close(model.denoise(canvas, mine, soft), expected, atol=TOLERANCE, rtol=0)
                ids = canvas


def image_prompt(images: int):
    """Ids with `images` spans of 4 to 6 soft tokens, the spans, and patches for transformers' tower."""
    torch.manual_seed(images)
    ids, spans, pixels, positions = [1, 2, 3], [], [], []
    for i in range(images):
        columns = 4 + 2 * i  # pooled 2 by 2: 4, 6, ... soft tokens of 4 x columns patches
        grid = torch.tensor([[x, y] for y in range(4) for x in range(columns)])
        ids.append(97)
        spans.append((len(ids), len(ids) + columns))
        ids += [98] * columns + [99, 5 + i]
        pixels.append(torch.rand(len(grid), 3 * 4 * 4))
        positions.append(grid)
    return ids, spans, pixels, positions


def gemma4_masks(ids, spans, window):
    """Gemma 4's rule (transformers' gemma4 module): images are bidirectional in sliding layers, global ones causal.

    transformers' own DiffusionGemma drops its mask in `forward` and widens global layers too in `generate`; the
    weights were trained with Gemma 4's rule, so that is what both sides get here.
    """
    index = torch.arange(len(ids))
    causal = index[None] <= index[:, None]
    both = causal.clone()
    for start, end in spans:
        both[start:end, start:end] = True
    sliding = both & (index[None] > index[:, None] - window)
    return {"full_attention": causal[None, None], "sliding_attention": sliding[None, None]}


@pytest.mark.parametrize(("images", "window"), [(1, 40), (1, 5), (2, 8), (3, 64)])
@torch.no_grad()
def test_images_equal_the_reference(images, window, tmp_path):
    reference = build(7, 8, sliding_window=window, use_bidirectional_attention="vision")
    model = ours(reference, tmp_path)
    ids, spans, pixels, positions = image_prompt(images)
    embeddings = reference.model.encoder.get_input_embeddings()(torch.tensor([ids]))
    features = [
        reference.model.encoder.get_image_features(p[None], q[None]).pooler_output
        for p, q in zip(pixels, positions, strict=True)
    ]
    for (start, end), feature in zip(spans, features, strict=True):
        embeddings[0, start:end] = feature
    theirs = new_cache(reference)
    reference.model.encoder.language_model(
        inputs_embeds=embeddings, past_key_values=theirs, attention_mask=gemma4_masks(ids, spans, window)
    )
    prompt = Prompt(
        ids, [ImageInput(p, q, e - s) for p, q, (s, e) in zip(pixels, positions, spans, strict=True)], spans
    )
    generation = Generation(Request(prompt, Decoding()), model, None)
    chunk = generation.work()
    assert chunk.image_spans == spans
    model.encode_rows([generation.sequence], [chunk.embedded(model)], [chunk.image_spans])
    canvas = torch.randint(0, 97, (1, 8))
    expected = reference(decoder_input_ids=canvas, past_key_values=theirs).logits
    mine = model.denoise(canvas, KVCache([generation.sequence]))
    torch.testing.assert_close(mine, expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("window", [5, 40])
@torch.no_grad()
def test_images_read_in_order_equal_the_reference(window, tmp_path):
    """With `use_bidirectional_attention` null in `config.json`, through transformers' own forward pass."""
    reference = build(7, 8, sliding_window=window, use_bidirectional_attention=None)
    model = ours(reference, tmp_path)
    assert model.config.use_bidirectional_attention is None
    ids, spans, (pixels,), (positions,) = image_prompt(1)
    canvas = torch.randint(0, 97, (1, 8))
    expected = reference(
        input_ids=torch.tensor([ids]),
        pixel_values=pixels[None],
        image_position_ids=positions[None],
        mm_token_type_ids=torch.tensor([[int(spans[0][0] <= i < spans[0][1]) for i in range(len(ids))]]),
        decoder_input_ids=canvas,
    ).logits
    row = model.new_sequence()
    embeddings = model.backbone.embed(torch.tensor(ids))
    embeddings[slice(*spans[0])] = model.image_features(pixels, positions)
    model.encode_rows([row], [embeddings], [spans])
    torch.testing.assert_close(model.denoise(canvas, KVCache([row])), expected, atol=TOLERANCE, rtol=0)


@torch.no_grad()
def test_rows_of_different_length_share_a_batch(tmp_path):
    reference = build(3, 8)
    model = ours(reference, tmp_path)
    prompts = [torch.randint(0, 97, (n,)) for n in (1, 7, 8, 9, 23)]
    rows = [model.new_sequence() for _ in prompts]
    model.encode_rows(rows, [model.backbone.embed(p) for p in prompts])
    canvases = [torch.randint(0, 97, (width,)) for width in (8, 3, 8, 5, 1)]
    softs = [None, torch.randn(3, 32), None, torch.randn(5, 32), torch.randn(1, 32)]
    together = model.backbone.logits(model.denoise_rows(rows, canvases, softs)).split([len(c) for c in canvases])
    for prompt, canvas, soft, logits in zip(prompts, canvases, softs, together, strict=True):
        cache = model.encode(prompt[None])
        alone = model.denoise(canvas[None], cache, None if soft is None else soft[None])
        torch.testing.assert_close(logits, alone[0], atol=1e-5, rtol=0)


@torch.no_grad()
def test_chunked_prompts_equal_whole_ones_and_sliding_layers_hold_their_window(tmp_path, monkeypatch):
    model = ours(build(4, 8, sliding_window=100), tmp_path)
    ids = torch.randint(0, 97, (2, 1500))
    whole = model.encode(ids)
    monkeypatch.setattr(model_module, "ENCODE_CHUNK", 333)
    chunked = model.encode(ids)
    canvas = torch.randint(0, 97, (2, 8))
    torch.testing.assert_close(model.denoise(canvas, chunked), model.denoise(canvas, whole), atol=1e-5, rtol=0)
    for cache in (whole, chunked):
        sliding, full = cache.rows[0].layers[0], cache.rows[0].layers[2]
        assert sliding.keys.shape[1] <= 99 + 2 * BLOCK
        assert full.end == 1500 and full.keys.shape[1] % BLOCK == 0


@torch.no_grad()
def test_a_copied_cache_is_independent(tmp_path):
    model = ours(build(5, 8), tmp_path)
    ids, more = torch.randint(0, 97, (1, 30)), torch.randint(0, 97, (1, 12))
    canvas = torch.randint(0, 97, (1, 8))
    cache = model.encode(ids)
    before = model.denoise(canvas, cache)
    branch = cache.copy()
    model.encode(more, branch)
    torch.testing.assert_close(model.denoise(canvas, cache), before, atol=0, rtol=0)
    expected = model.denoise(canvas, model.encode(torch.cat([ids, more], dim=1)))
    torch.testing.assert_close(model.denoise(canvas, branch), expected, atol=1e-5, rtol=0)
    assert cache.lengths == [30] and branch.lengths == [42]
