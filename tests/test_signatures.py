"""The names that type checkers know are those of the options."""

from __future__ import annotations

from dataclasses import fields

from diffusiongemma.options import OF_DECODING, BatchDecodingOptions, DecodingOptions
from diffusiongemma.request_options import RequestOptions
from diffusiongemma.signatures import AnswerOptions, BatchOptions, GenerateOptions, StreamOptions


def test_typed_options_are_those_of_the_tables():
    decoding = set(DecodingOptions.__annotations__)
    generate = set(GenerateOptions.__annotations__)
    assert decoding == set(OF_DECODING) == set(BatchDecodingOptions.__annotations__)
    assert set(AnswerOptions.__annotations__) == decoding | {field.name for field in fields(RequestOptions)}
    assert generate == set(AnswerOptions.__annotations__) | {"trace"}
    assert set(BatchOptions.__annotations__) == generate
    assert set(StreamOptions.__annotations__) == generate | {"id", "frames", "cache", "constraint"}
