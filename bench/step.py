"""One encode and one denoise step against transformers': same weights, same dtype, alternating in one run.

    python bench/step.py [--tiny | --quarter] [--rounds N] [--dtype float32|bfloat16|int8|int4|mixed] [--theirs DTYPE]
                         [--keep DIRECTORY]

Prints the median milliseconds of each side and the ratio theirs / ours, pair by pair. `--quarter` has a quarter of the
release's widths and all of its layers, experts and vocabulary. transformers computes in the same dtype, and beside
weights in few bits in bfloat16, unless `--theirs` says otherwise. Making the quarter takes minutes: `--keep` leaves its
files for the next run with the same size.
"""

from __future__ import annotations

import argparse
import inspect
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import DiffusionGemmaConfig, DiffusionGemmaForBlockDiffusion
from transformers.cache_utils import DynamicCache
from transformers.utils import logging

import diffusiongemma as dg
from diffusiongemma.config import FULL, SLIDING, ModelConfig
from diffusiongemma.diffusion.decoding import Decoding
from diffusiongemma.diffusion.denoise import Canvas, denoise_step
from diffusiongemma.diffusion.noise import Noise
from diffusiongemma.model.cache import KVCache
from diffusiongemma.weights.quantize import quantize
from diffusiongemma.weights.schemes import KINDS, Scheme

SPREAD = 10.0  # standard deviation of the logits
VISION = dict(
    model_type="gemma4_vision", hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=1,
    num_key_value_heads=1, head_dim=16, position_embedding_size=64,
)  # fmt: skip


def config_of(tiny: bool, quarter: bool = False) -> ModelConfig:
    """A quarter of the released widths, where the matrices matter, with few layers; all of them; or a toy."""
    size = dict(
        vocab_size=32_768, hidden_size=704, intermediate_size=528, num_attention_heads=8, num_key_value_heads=4,
        head_dim=128, num_global_key_value_heads=2, global_head_dim=256, num_experts=32, top_k_experts=8,
        moe_intermediate_size=176, layer_types=(SLIDING,) * 5 + (FULL,), sliding_window=1024, canvas_length=256,
    )  # fmt: skip
    if quarter:
        size |= dict(layer_types=((SLIDING,) * 5 + (FULL,)) * 5, num_experts=128, vocab_size=262_144)
    if tiny:
        size |= dict(
            vocab_size=512, hidden_size=64, intermediate_size=64, head_dim=16, global_head_dim=32, num_experts=8,
            moe_intermediate_size=32, canvas_length=32, layer_types=(SLIDING, FULL),
        )  # fmt: skip
    return ModelConfig(**size, boi_token_id=5, image_token_id=6, eoi_token_id=7, vision_config=VISION)  # type: ignore[arg-type]


def paired(ours: Callable[[], Any], theirs: Callable[[], Any], rounds: int) -> tuple[float, float, float]:
    """Median seconds of each, run in turn, and the median of theirs / ours pair by pair."""
    times: list[tuple[float, float]] = []
    for _ in range(rounds + 1):
        pair = []
        for work in (ours, theirs):
            started = time.perf_counter()
            work()
            pair.append(time.perf_counter() - started)
        times.append((pair[0], pair[1]))
    times = times[1:]  # the first warms up
    a, b = zip(*times, strict=True)
    return statistics.median(a), statistics.median(b), statistics.median(y / x for x, y in times)


@contextmanager
def saved_reference(config: ModelConfig, dtype: torch.dtype, keep: Path | None) -> Iterator[tuple[Any, Path]]:
    """transformers' model and a directory that holds it: `keep`, as it is found or as it is left, or a passing one."""
    with tempfile.TemporaryDirectory() as passing:
        directory = keep or Path(passing)
        if not (directory / "config.json").exists():
            torch.manual_seed(0)
            made = DiffusionGemmaForBlockDiffusion(DiffusionGemmaConfig.from_dict(config.to_hf())).to(dtype)
            spread_logits(made)
            made.save_pretrained(directory)
            del made
        yield DiffusionGemmaForBlockDiffusion.from_pretrained(directory, dtype=dtype).eval(), directory


@torch.no_grad()
def measure(
    config: ModelConfig, rounds: int, dtype: str, theirs: str, prompt: int, keep: Path | None = None
) -> dict[str, Any]:
    with saved_reference(config, getattr(torch, theirs), keep) as (reference, directory):
        torch.manual_seed(0)
        if dtype in KINDS:
            loaded = in_few_bits(directory, dtype, keep is not None)
        else:
            loaded = dg.load(directory, device="cpu", dtype=dtype)
        model = loaded.network
        rows = {
            "encode": _encode(model, reference, prompt),
            "denoise": _denoise(model, reference, prompt),
            "step": _step(model, reference, prompt),
        }
        figures = {name: paired(ours, theirs, rounds) for name, (ours, theirs) in rows.items()}
    return {name: {"ours_ms": a * 1e3, "theirs_ms": b * 1e3, "ratio": r} for name, (a, b, r) in figures.items()}


def in_few_bits(directory: Path, scheme: str, keep: bool) -> dg.DiffusionGemma:
    """The model of a directory in few bits, which are kept in one beside it or not."""
    if not keep:
        return dg.load(directory, device="cpu", quantize=scheme)
    packed = directory.with_name(f"{directory.name}-{scheme}")
    if not (packed / "config.json").exists():
        quantize(directory, packed, Scheme(scheme))
    return dg.load(packed, device="cpu", dtype="bfloat16")


def spread_logits(reference: Any) -> None:
    """Spread the logits like those of a model that knows something: random ones are flat, as none is in use."""
    decoder = reference.model.decoder
    size = decoder.embed_tokens.weight.float().std() * reference.config.text_config.hidden_size**0.5
    reference.model.encoder.language_model.norm.weight.data.mul_(SPREAD / size)


def _prefix(model: Any, reference: Any, prompt: int) -> tuple[KVCache, DynamicCache]:
    ids = torch.randint(10, 500, (1, prompt))
    theirs = DynamicCache(config=reference.config.text_config)
    reference.model.encoder(input_ids=ids, past_key_values=theirs)
    return model.encode(ids), theirs


def _encode(model: Any, reference: Any, prompt: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
    ids = torch.randint(10, 500, (1, prompt))
    fresh = lambda: DynamicCache(config=reference.config.text_config)  # noqa: E731
    return lambda: model.encode(ids), lambda: reference.model.encoder(input_ids=ids, past_key_values=fresh())


def _denoise(model: Any, reference: Any, prompt: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """The decoder pass to logits, self-conditioned as in every step but the first."""
    cache, theirs = _prefix(model, reference, prompt)
    canvas = torch.randint(10, 500, (1, model.config.canvas_length))
    logits = torch.randn(1, model.config.canvas_length, model.config.vocab_size) * SPREAD
    return (
        lambda: model.denoise(canvas, cache, model.soft_embedding(logits)),
        lambda: reference(decoder_input_ids=canvas, past_key_values=theirs, self_conditioning_logits=logits),
    )


def _step(model: Any, reference: Any, prompt: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """A whole step: decoder, sampling, acceptance, renoising, stop rule."""
    cache, theirs = _prefix(model, reference, prompt)
    config = reference._prepare_generation_config(None)[0]
    sampler = reference._prepare_sampler(config)
    processors, stop = (
        reference._prepare_logits_processor(config),
        reference._prepare_diffusion_stopping_criteria(config),
    )
    canvas = torch.randint(10, 500, (1, model.config.canvas_length))
    start = Canvas.open(cache.rows[0], canvas.shape[1], model.config.vocab_size, Noise(0, 0), Decoding(), "cpu")
    denoise_step(model, [start])
    assert start.soft is not None and stop is not None
    logits = torch.randn(1, model.config.canvas_length, model.config.vocab_size, dtype=model.dtype) * SPREAD
    names = inspect.signature(reference._denoising_step).parameters  # the cache has another name since 5.24
    prefix = {"cache" if "cache" in names else "past_key_values": theirs}

    def ours() -> None:
        start.step, start.done = 1, False
        denoise_step(model, [start])

    def reference_step() -> None:
        reference._denoising_step(
            decoder_forward=reference.forward, current_canvas=canvas, argmax_canvas=canvas, input_ids=canvas,
            decoder_position_ids=torch.arange(prompt, prompt + canvas.shape[1])[None], self_conditioning_logits=logits,
            mask_mapping={"full_attention": None, "sliding_attention": None}, **prefix,
            finished_denoising=torch.zeros(1, dtype=torch.bool), cur_step=47, sampler=sampler,
            logits_processor=processors, diffusion_stopping_criteria=stop,
        )  # fmt: skip

    return ours, reference_step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--quarter", action="store_true")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", *KINDS])
    parser.add_argument("--theirs", choices=["float32", "bfloat16"], help="what transformers computes in")
    parser.add_argument("--prompt", type=int)
    parser.add_argument("--keep", type=Path, metavar="DIRECTORY", help="where the model's files stay for other runs")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    logging.disable_progress_bar()
    prompt = options.prompt or (20 if options.tiny else 1024 if options.quarter else 512)
    config = config_of(options.tiny, options.quarter)
    theirs = options.theirs or ("bfloat16" if options.dtype in KINDS else options.dtype)
    figures = measure(config, options.rounds, options.dtype, theirs, prompt, options.keep)
    if options.json:
        print(json.dumps(figures))
        return
    size = f"{config.num_layers} layers of hidden {config.hidden_size}, {config.num_experts} experts"
    print(f"CPU, {torch.get_num_threads()} threads, ours {options.dtype}, theirs {theirs}")
    print(f"{size}, vocabulary {config.vocab_size:,}, prompt {prompt}, canvas {config.canvas_length}, batch 1")
    print(f"{'':10}{'ours ms':>10}{'theirs ms':>12}{'theirs/ours':>14}")
    for name, row in figures.items():
        print(f"{name:10}{row['ours_ms']:10.1f}{row['theirs_ms']:12.1f}{row['ratio']:14.2f}")


if __name__ == "__main__":
    main()
