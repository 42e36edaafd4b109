"""The OpenAPI document is true: generated requests, valid and not, get the answers that it describes.

`SCHEMA_CASES=5000 SCHEMA_SEED=7 pytest -s tests/serve/test_serve_schema.py` runs more of them, and says how many there
were and how they were answered; the default is a sample.
"""

from __future__ import annotations

import base64
import io
import json
import os
import random
from collections import Counter

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from PIL import Image
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)
from serving import running, user, wait_until

import diffusiongemma as dg
from diffusiongemma.serve.transport.metrics import resident_bytes

CASES = int(os.environ.get("SCHEMA_CASES", "0"))
SEED = int(os.environ.get("SCHEMA_SEED", "1"))
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
]
# Method, path, share of the cases; what takes no input is asked a few times only.
OPERATIONS = [
    ("POST", "/v1/chat/completions", 8),
    ("POST", "/v1/completions", 8),
    ("POST", "/v1/infill", 5),
    ("POST", "/v1/edits", 5),
    ("POST", "/v1/traces", 2),
    ("POST", "/v1/boards", 1),
    ("POST", "/v1/pictures", 1),
    ("POST", "/v1/responses", 4),
    ("POST", "/v1/messages", 4),
    ("POST", "/v1/messages/count_tokens", 1),
    ("POST", "/v1/fim/completions", 1),
    ("POST", "/infill", 3),
    ("POST", "/v1/systemone", 3),
    ("GET", "/props", 0),
    ("POST", "/v1/load_lora_adapter", 1),
    ("POST", "/v1/unload_lora_adapter", 1),
    ("POST", "/api/chat", 4),
    ("POST", "/api/generate", 3),
    ("POST", "/api/show", 1),
    ("GET", "/api/tags", 0),
    ("GET", "/api/ps", 0),
    ("GET", "/api/version", 0),
    ("POST", "/v1/files", 1),
    ("GET", "/v1/files", 1),
    ("GET", "/v1/files/{file_id}", 1),
    ("GET", "/v1/files/{file_id}/content", 1),
    ("DELETE", "/v1/files/{file_id}", 1),
    ("POST", "/v1/batches", 2),
    ("GET", "/v1/batches", 1),
    ("GET", "/v1/batches/{batch_id}", 1),
    ("POST", "/v1/batches/{batch_id}/cancel", 1),
    ("GET", "/v1/models", 0),
    ("GET", "/v1/models/{name}", 1),
    ("GET", "/v1/info", 0),
    ("GET", "/health", 0),
    ("GET", "/metrics", 0),
]
SHARES = sum(share for _, _, share in OPERATIONS)


@pytest.fixture(scope="module")
def server(tiny_directory, tmp_path_factory):
    # Few tokens, so that a valid request is quick; beyond them there is 400.
    limits = {"max_requests": 8, "max_tokens": 600, "body_timeout": 5, "lora_loading": True}
    kept = tmp_path_factory.mktemp("batches")
    with running(dg.load(tiny_directory), aliases=("*",), batch_dir=kept, **limits) as server:
        yield server


@pytest.fixture(scope="module")
def schema(server):
    return schemathesis.openapi.from_url(f"{server.address}/openapi.json")


@pytest.fixture(scope="module")
def answered():
    """How often each status was answered, printed at the end."""
    statuses = Counter()
    yield statuses
    print(f"\n{statuses.total()} cases, seed {SEED}: {dict(sorted(statuses.items()))}")


@pytest.mark.parametrize(("method", "path", "share"), OPERATIONS)
def test_generated_requests_get_the_answers_that_the_document_describes(server, schema, answered, method, path, share):
    operation = schema[path][method]
    count = max(3, (CASES or 240) * share // SHARES)
    strategy = st.one_of(
        operation.as_strategy(generation_mode=mode)
        for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
    )

    @seed(SEED)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def run(case):
        response = case.call(timeout=60)
        answered[response.status_code] += 1
        case.validate_response(response, checks=CHECKS)

    run()
    wait_until(lambda: server.idle, 10)


def test_the_document_describes_every_endpoint(server):
    document = httpx.get(f"{server.address}/openapi.json").json()
    described = {(m.upper(), p) for p, item in document["paths"].items() for m in item}
    assert described == {(m, p) for m, p, _ in OPERATIONS}
    for path, item in document["paths"].items():
        for operation in item.values():
            assert {"200", "4XX", "5XX"} <= set(operation["responses"]) and "422" not in operation["responses"], path


# --- fuzz -----------------------------------------------------------------------------------------------------------

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(
        [
            "\ud800",
            "\0",
            "<|turn>",
            "<eos>",
            "[" * 50,
            "(" * 30 + "a" + ")*" * 30,
            "{name:str}",
            "data:image/png;base64,",
        ]
    ),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
SHORT = {"max_tokens": 8}
FEW_STEPS = {"diffusion": {"steps": 2}}
RIGHT = {  # for each path a body that is answered
    "/v1/chat/completions": {"messages": user("hi")} | SHORT | FEW_STEPS,
    "/v1/completions": {"prompt": "hi"} | SHORT | FEW_STEPS,
    "/v1/infill": {"text": "a <<>> b"} | FEW_STEPS,
    "/v1/edits": {"input": "a b c"} | FEW_STEPS,
    "/v1/responses": {"input": "hi", "max_output_tokens": 8} | FEW_STEPS,
    "/v1/messages": {"model": "tiny", "messages": user("hi")} | SHORT | FEW_STEPS,
    "/v1/messages/count_tokens": {"model": "tiny", "messages": user("hi")},
    "/v1/fim/completions": {"prompt": "a", "suffix": "b"} | SHORT | FEW_STEPS,
    "/infill": {"input_prefix": "a", "input_suffix": "b", "n_predict": 4} | FEW_STEPS,
    "/api/chat": {"model": "tiny", "messages": user("hi"), "options": {"num_predict": 8}},
    "/api/generate": {"model": "tiny", "prompt": "hi", "options": {"num_predict": 8}},
    "/api/show": {"model": "tiny"},
    "/v1/load_lora_adapter": {"lora_name": "a", "lora_path": "/no/where"},
    "/v1/boards": {"text": "1"},
    "/v1/systemone": {"state": "x", "questions": {"q": {"type": "noul", "instructions": "?"}}},
}
# Where bodies have parts of their own: the field, and the schema that it has in the document.
INNER = {"diffusion": "DiffusionOptions", "options": "OllamaOptions"}
# Parts of the lists that hold what was said: anything may be wrong with one.
ITEMS = {"messages": user("hi")[0], "input": {"type": "message", "role": "user", "content": "hi"}}


def names_of(document, path):
    body = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    return sorted(document["components"]["schemas"][body["$ref"].rsplit("/", 1)[1]]["properties"])


def odd_items(right):
    """Lists of a right item and others like it, of which a field or two may be anything."""
    names = st.sampled_from(
        [*right, "content", "tool_calls", "tool_call_id", "name", "images", "id", "call_id", "arguments", "output"]
    )
    kinds = st.fixed_dictionaries(
        {}, optional={"type": st.sampled_from(["function_call", "function_call_output", "reasoning"])}
    )
    roles = st.fixed_dictionaries({}, optional={"role": st.sampled_from(["assistant", "tool", "system", "developer"])})
    odd = st.builds(
        lambda *parts: {k: v for p in (right, *parts) for k, v in p.items()},
        kinds,
        roles,
        st.dictionaries(names, VALUES, max_size=2),
    )
    return st.lists(odd, min_size=1, max_size=3).map(lambda items: [*items, right])


@pytest.mark.parametrize("path", RIGHT)
def test_no_body_breaks_the_server(server, path):
    """Bodies that are right but for one or two fields, of which anything may be."""
    document = httpx.get(f"{server.address}/openapi.json").json()
    names = names_of(document, path)
    inner = {field: sorted(document["components"]["schemas"][INNER[field]]["properties"]) for field in INNER}
    client = httpx.Client(timeout=60)
    parts = {
        field: st.dictionaries(st.sampled_from(inner[field]), VALUES, max_size=2) for field in INNER if field in names
    }
    parts |= {field: odd_items(ITEMS[field]) for field in ITEMS if field in names}

    @settings(
        max_examples=max(25, CASES // 10),
        deadline=None,
        database=None,
        phases=[Phase.generate],  # no shrinking: a request that hangs would be sent again and again
        suppress_health_check=list(HealthCheck),
    )
    @seed(SEED + 1)
    @given(st.fixed_dictionaries({}, optional=parts), st.dictionaries(st.sampled_from(names), VALUES, max_size=2))
    def run(inside, fields):
        body = dict(RIGHT[path])
        for field, value in inside.items():
            body[field] = body.get(field, {}) | value if isinstance(value, dict) else value
        content = json.dumps(body | fields)  # NaN, Infinity and lone surrogates included
        headers = {"content-type": "application/json"}
        response = client.post(f"{server.address}{path}", content=content, headers=headers)
        refusals = (422,) if path == "/v1/systemone" else ()
        assert response.status_code in (200, 400, 403, 404, *refusals), (response.status_code, response.text, content)
        if response.status_code != 200:
            said = response.json()
            error = said.get("error") or said["detail"]
            assert error if isinstance(error, (str, list)) else error["message"]

    run()
    wait_until(lambda: server.idle, 10)


def test_no_image_breaks_the_server_or_stays_in_memory(server):
    rng, client = random.Random(5), httpx.Client(timeout=60)
    seeds = []
    for kind in ("PNG", "JPEG", "WEBP", "GIF"):
        buffer = io.BytesIO()
        Image.effect_noise((40, 30), 60).convert("RGB").save(buffer, kind)
        seeds.append(buffer.getvalue())

    def send(data):
        url = f"data:image/png;base64,{base64.b64encode(data).decode()}"
        parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "?"}]
        body = {"messages": [{"role": "user", "content": parts}], "max_tokens": 2, "diffusion": {"steps": 1}}
        assert client.post(f"{server.address}/v1/chat/completions", json=body).status_code in (200, 400)

    def round_of(count):
        for _ in range(count):
            data = bytearray(rng.choice(seeds))
            for _ in range(rng.randrange(1, 6)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            send(bytes(data[: rng.randrange(len(data)) if rng.random() < 0.2 else None]))

    round_of(20)
    before = resident_bytes()
    round_of(max(30, CASES // 5))
    assert resident_bytes() - before < 60e6
    wait_until(lambda: server.idle, 10)
