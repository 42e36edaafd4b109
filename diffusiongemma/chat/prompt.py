"""A conversation as the model's input: token ids, and the images that stand for some of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from diffusiongemma.chat.messages import GUARD, Messages, canonical, render
from diffusiongemma.errors import CheckpointError, InputError
from diffusiongemma.media import ImageInput, MediaSettings, image_inputs, load_image, sample_video, timestamp

VIDEO_TOKEN = "<|video|>"  # only ever in rendered text: in the prompt a video is its frames


class VisionIds(Protocol):
    """The part of a model's configuration that prompts with images need."""

    @property
    def boi_token_id(self) -> int: ...
    @property
    def image_token_id(self) -> int: ...
    @property
    def eoi_token_id(self) -> int: ...
    @property
    def vision_config(self) -> Any: ...


@dataclass(frozen=True)
class Prompt:
    """Token `ids`, and per image or video frame its patches and the span [start, end) of its soft tokens in `ids`."""

    ids: list[int]
    images: list[ImageInput]
    image_spans: list[tuple[int, int]]


def encode_prompt(
    messages: str | Messages,
    tokenizer: Any,
    config: VisionIds | None = None,
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
    thinking: bool = False,
    add_generation_prompt: bool = True,
    media: MediaSettings = MediaSettings(),
) -> Prompt:
    """Render a conversation and encode it. An image is begin + soft tokens + end; a video is `mm:ss` and an image for
    each of its frames. The tokenizer adds nothing: the template writes the BOS.

    Raises InputError for messages, tools, images or videos that cannot be used, and for images without `config` or
    with a model that has no vision; CheckpointError for a chat template that leaves images out.
    """
    messages = canonical(messages)
    text = render(messages, tokenizer, tools=tools, thinking=thinking, add_generation_prompt=add_generation_prompt)
    sources = list(_media(messages))
    if not sources:
        return Prompt(encode_text(text, tokenizer), [], [])
    if config is None or config.vision_config is None:
        raise InputError(
            f"this model reads text only: leave the {sources[0][0]} out",
            option="images" if sources[0][0] == "image" else "video",
        )
    placeholder = tokenizer.convert_ids_to_tokens(config.image_token_id)
    text, images = _with_media(text, sources, placeholder, config.vision_config, media)
    return _expanded(encode_text(text, tokenizer), images, config)


def encode_text(text: str, tokenizer: Any) -> list[int]:
    """Ids of rendered text. Where `GUARD` breaks a marker, what is left of the marker is encoded as ordinary text."""
    return [token for piece in text.split(GUARD) for token in tokenizer.encode(piece, add_special_tokens=False)]


def _media(messages: list[dict[str, Any]]) -> Iterator[tuple[str, Any]]:
    for message in messages:
        if not isinstance(message["content"], str):
            yield from ((part["type"], part[part["type"]]) for part in message["content"] if part["type"] != "text")


def _with_media(
    text: str, sources: list[tuple[str, Any]], placeholder: str, vision_config: Any, media: MediaSettings
) -> tuple[str, list[ImageInput]]:
    """The text with one placeholder per image or frame, and those images, in the same order."""
    written = re.split(f"({re.escape(placeholder)}|{re.escape(VIDEO_TOKEN)})", text)
    if [mark == VIDEO_TOKEN for mark in written[1::2]] != [kind == "video" for kind, _ in sources]:
        raise CheckpointError(f"the chat template writes {len(written) // 2} of {len(sources)} images: update it")
    images: list[ImageInput] = []
    for index, (kind, source) in enumerate(sources):
        frames = _frames(kind, source, media)
        limit = media.video_tokens if kind == "video" else media.image_tokens
        page = media.page[1:] if media.page else None
        images += image_inputs([image for _, image in frames], vision_config, limit, page)
        written[2 * index + 1] = " ".join(label + placeholder for label, _ in frames)
    return "".join(written), images


def _frames(kind: str, source: Any, media: MediaSettings) -> list[tuple[str, Any]]:
    if kind == "image":
        return [("", media.shown(load_image(source, media.local_files)))]
    return [(timestamp(seconds) + " ", image) for seconds, image in sample_video(source, media.local_files)]


def _expanded(ids: list[int], images: list[ImageInput], config: VisionIds) -> Prompt:
    """Each placeholder as begin, as many placeholders as the image has soft tokens, end."""
    waiting = iter(images)
    out: list[int] = []
    spans = []
    for token in ids:
        if token != config.image_token_id:
            out.append(token)
            continue
        out.append(config.boi_token_id)
        start = len(out)
        out += [token] * next(waiting).soft_tokens
        spans.append((start, len(out)))
        out.append(config.eoi_token_id)
    assert len(spans) == len(images)
    return Prompt(out, images, spans)
