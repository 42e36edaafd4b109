"""The model is shown the schema that its answer must match, unless the messages say it or the user does not want it."""

from __future__ import annotations

import json

import pytest

import diffusiongemma as dg
from diffusiongemma.chat.shown_schema import REQUEST, sketch, with_schema

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": ["integer", "null"]}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
TEXT = "Maria Lopez is 34 years old and lives in Oslo."


@pytest.mark.parametrize(
    "schema, shape",
    [
        (PERSON, '{"name": string, "age": integer or null}'),
        ({"type": "array", "items": {"enum": ["a", 1]}}, '["a" or 1]'),
        ({"properties": {"when": {"type": "string", "format": "date"}}}, '{"when": date}'),
        ({"$defs": {"p": PERSON}, "type": "array", "items": {"$ref": "#/$defs/p"}},
         '[{"name": string, "age": integer or null}]'),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "string or null"),
        ({"$defs": {"t": {"properties": {"t": {"$ref": "#/$defs/t"}}}}, "$ref": "#/$defs/t"}, None),
        ({"type": "object"}, ""),
        ({"type": "string"}, ""),
        ({"properties": {f"field_{i}": {"type": "string"} for i in range(999)}}, ""),
    ],
)  # fmt: skip
def test_a_sketch_is_what_a_person_would_write(schema, shape):
    found = sketch(schema)
    assert found == shape if shape is not None else found.startswith('{"t": {"t": ')


def test_it_stands_in_the_system_turn_or_in_the_message():
    told = REQUEST + '{"name": string, "age": integer or null}'
    assert with_schema(TEXT, PERSON, False) == [
        {"role": "system", "content": told},
        {"role": "user", "content": TEXT},
    ]
    system, user = with_schema(
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": TEXT}], PERSON, False
    )
    assert system["content"] == f"Be brief.\n\n{told}" and user["content"] == TEXT
    assert with_schema(TEXT, json.dumps(PERSON), True) == [{"role": "user", "content": f"{told}\n\n{TEXT}"}]


def test_messages_that_name_all_that_is_required_stay():
    said = "Give name and age as JSON: " + TEXT
    assert with_schema(said, PERSON, False) == [{"role": "user", "content": said}]


def test_nano_answers_rightly_because_it_is_shown(tmp_path):
    """What an issue tells: without it the strings are empty."""
    model = dg.load("nano")
    shown = model.prompt(TEXT, schema=PERSON)
    assert len(shown.ids) > len(model.prompt(TEXT).ids)
    assert list(model.request(TEXT, json_schema=PERSON).prompt.ids) == list(shown.ids)
    assert list(model.request(TEXT, json_schema=PERSON, show_schema=False).prompt.ids) == model.prompt(TEXT).ids
    answer = json.loads(model.generate(TEXT, json_schema=PERSON).text)
    assert answer["name"] and answer["age"] == 34
    assert json.loads(model.chat().send(TEXT, json_schema=PERSON).text) == answer
