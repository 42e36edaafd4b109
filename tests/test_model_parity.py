"""Logits equal transformers' on random small configurations, over several committed canvases."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reference import build, new_cache, ours

TOLERANCE = 3e-5


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
