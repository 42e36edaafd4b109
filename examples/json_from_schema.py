"""Facts from a text as JSON. The answer matches the schema whatever the model, temperature or number of steps."""

from __future__ import annotations

import json

import diffusiongemma as dg

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 40}, "number": {"type": "integer", "minimum": 0}},
    "required": ["name", "number"],
    "additionalProperties": False,
}

model = dg.load("nano")
text = "Extract name, number as JSON.\n\nThe new address of William Clark is 299 Mill Lane, Helsinki."
person = json.loads(model.generate(text, json_schema=SCHEMA, seed=7).text)
print(person["name"], "lives at number", person["number"])
