"""Messages ⇄ tokens: the chat markup, thinking, tool calls, images and video in prompts, and streamed text."""

from __future__ import annotations

from diffusiongemma.chat.messages import GUARD, MARKERS, TEMPLATE_FILE, canonical, render, strip_thoughts
from diffusiongemma.chat.prompt import Prompt, encode_prompt
from diffusiongemma.chat.reply import Reply, ToolCall, parse_reply
from diffusiongemma.chat.stream import ReplyDelta, ReplyStream, StreamDecoder, decode

__all__ = [
    "GUARD",
    "MARKERS",
    "TEMPLATE_FILE",
    "Prompt",
    "Reply",
    "ReplyDelta",
    "ReplyStream",
    "StreamDecoder",
    "ToolCall",
    "canonical",
    "decode",
    "encode_prompt",
    "parse_reply",
    "render",
    "strip_thoughts",
]
