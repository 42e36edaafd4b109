"""Tokens that wait to be encoded, in portions that do not hold up other requests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffusiongemma.chat import Prompt
from diffusiongemma.media import ImageInput
from diffusiongemma.model.model import ENCODE_CHUNK, Model

Span = tuple[int, int]


@dataclass(frozen=True)
class Chunk:
    """Tokens that are encoded in one pass, and the images among them by their spans."""

    tokens: Sequence[int]  # [T]
    images: tuple[tuple[Span, ImageInput], ...] = ()

    @property
    def image_spans(self) -> list[Span]:
        return [span for span, _ in self.images]

    def embedded(self, model: Model) -> Tensor:
        """[T, D]"""
        x = model.backbone.embed(torch.tensor(self.tokens, device=model.device))
        for (first, last), image in self.images:
            x[first:last] = model.image_features(image.pixels, image.positions).to(x.dtype)
        return x


def prompt_chunks(prompt: Prompt, cached: int, bounds: Sequence[Span] | None) -> tuple[Chunk, ...]:
    """The prompt behind its `cached` first tokens, cut at `bounds` or evenly."""
    bounds = bounds or list(chunk_bounds(cached, len(prompt.ids), prompt.image_spans))
    return tuple(_chunk(prompt, start, end) for start, end in bounds)


def _chunk(prompt: Prompt, start: int, end: int) -> Chunk:
    images = [
        ((first - start, last - start), image)
        for (first, last), image in zip(prompt.image_spans, prompt.images, strict=True)
        if start <= first and last <= end
    ]
    return Chunk(prompt.ids[start:end], tuple(images))


def chunk_bounds(start: int, length: int, spans: list[Span], size: int = ENCODE_CHUNK) -> Iterator[Span]:
    """Cut `start .. length` into chunks of about `size` that divide no image."""
    while start < length:
        end = min(start + size, length)
        for first, last in spans:
            if first < end < last:
                end = first if first > start else last
        yield start, end
        start = end
