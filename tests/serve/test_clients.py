"""Libraries that stand between programs and a server: each must find what it expects."""

from __future__ import annotations

from collections.abc import Iterable

import anthropic
import pytest
from pydantic import BaseModel, Field
from serving import running, user

import diffusiongemma as dg

ASK = {"seed": 3, "max_tokens": 40}


class Answer(BaseModel):
    """What is asked for."""

    n: int = Field(ge=0, le=99)
    ok: bool


@pytest.fixture(scope="module")
def server(tiny_directory):
    with running(dg.load(tiny_directory), aliases=("*",)) as server:
        yield server


def text(server):
    reply = server.openai().chat.completions.create(model="tiny", messages=user("hello"), **ASK)
    return reply.choices[0].message.content


def test_openais_parse(server):
    client = server.openai()
    parsed = client.chat.completions.parse(model="tiny", messages=user("hello"), response_format=Answer, **ASK)
    assert isinstance(parsed.choices[0].message.parsed, Answer)
    answer = client.responses.parse(model="tiny", input="hello", text_format=Answer, max_output_tokens=40)
    assert isinstance(answer.output_parsed, Answer)
    shortest = len(client.chat.completions.create(model="tiny", messages=user("x"), max_tokens=1).choices)
    assert shortest == 1


def test_an_answer_that_closes_with_its_last_token_is_whole(server):
    client = server.openai()
    shape = {"type": "json_schema", "json_schema": {"name": "x", "schema": Answer.model_json_schema()}}
    for most in range(8, 40):
        try:
            reply = client.chat.completions.create(
                model="tiny", messages=user("hello"), response_format=shape, max_tokens=most, seed=1
            )
        except Exception as error:
            assert "max_tokens" in str(error)
            continue
        assert reply.choices[0].finish_reason == "stop", most
        Answer.model_validate_json(reply.choices[0].message.content)
        return
    raise AssertionError("no length was enough")


def test_litellms_routes(server):
    litellm = pytest.importorskip("litellm")
    ask = dict(messages=user("hello"), api_key="any", max_tokens=40)
    whole = text(server)
    reply = litellm.completion(model="openai/tiny", api_base=f"{server.address}/v1", seed=3, **ask)
    assert reply.choices[0].message.content == whole
    reply = litellm.completion(model="anthropic/claude-x", api_base=server.address, **ask)
    assert reply.choices[0].message.content and reply.usage.prompt_tokens > 0
    reply = litellm.completion(model="ollama_chat/tiny", api_base=server.address, seed=3, **ask)
    assert reply.choices[0].message.content == whole
    parts = litellm.completion(model="ollama_chat/tiny", api_base=server.address, seed=3, stream=True, **ask)
    assert "".join(part.choices[0].delta.content or "" for part in parts) == whole


def test_langchain(server):
    langchain = pytest.importorskip("langchain_openai")
    chat = langchain.ChatOpenAI(base_url=f"{server.address}/v1", api_key="any", model="tiny", **ASK)
    whole = chat.invoke("hello").content
    assert whole == text(server) == "".join(str(chunk.content) for chunk in chat.stream("hello"))
    assert isinstance(chat.with_structured_output(Answer, method="json_schema").invoke("hello"), Answer)
    assert isinstance(chat.with_structured_output(Answer, method="function_calling").invoke("hello"), Answer)
    (call,) = chat.bind_tools([Answer], tool_choice="required").invoke("hello").tool_calls
    assert call["name"] == "Answer" and Answer(**call["args"])


# Of these modes the model alone decides: in the test the server does it for one that cannot read.
LEFT_TO_THE_MODEL = {
    "JSON": {"regex": r'\{"n": [0-9], "ok": true\}'},
    "MD_JSON": {"regex": r'```json\n\{"n": [0-9], "ok": false\}\n```'},
    "ANTHROPIC_JSON": {"regex": r'\{"n": [0-9], "ok": true\}'},
}
INSTRUCTOR_MODES = {
    "openai": [
        *("TOOLS", "TOOLS_STRICT", "FUNCTIONS", "PARALLEL_TOOLS", "RESPONSES_TOOLS", "JSON_SCHEMA", "JSON_O1"),
        *("JSON", "MD_JSON"),
    ],
    "anthropic": ["ANTHROPIC_TOOLS", "ANTHROPIC_REASONING_TOOLS", "ANTHROPIC_PARALLEL_TOOLS", "ANTHROPIC_JSON"],
}


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(
    ("library", "mode"), [(library, mode) for library, modes in INSTRUCTOR_MODES.items() for mode in modes]
)
def test_instructor(server, library, mode):
    instructor = pytest.importorskip("instructor")
    parallel = Iterable[Answer] if "PARALLEL" in mode else Answer
    body = {"diffusion": LEFT_TO_THE_MODEL[mode]} if mode in LEFT_TO_THE_MODEL else {}
    ask = dict(model="tiny", messages=user("hello"), response_model=parallel, max_retries=0)
    if library == "anthropic":
        plain = anthropic.Anthropic(base_url=server.address, api_key="any", max_retries=0, timeout=60)
        client = instructor.from_anthropic(plain, mode=getattr(instructor.Mode, mode))
        body |= {"tool_choice": {"type": "any"}} if "PARALLEL" in mode else {}
        told = client.messages.create(**ask, max_tokens=60, extra_body={"seed": 3} | body)
    else:
        client = instructor.from_openai(server.openai(), mode=getattr(instructor.Mode, mode))
        limit = {"max_output_tokens": 60} if mode.startswith("RESPONSES") else ASK | {"max_tokens": 60}
        body |= {"tool_choice": "required"} if "PARALLEL" in mode else {}
        body |= {"response_format": {"type": "text"}} if mode in LEFT_TO_THE_MODEL else {}
        told = client.chat.completions.create(**ask, **limit, extra_body=body)
    answers = [told] if isinstance(told, Answer) else list(told)
    assert answers and all(isinstance(one, Answer) for one in answers)


def test_instructor_streams(server):
    instructor = pytest.importorskip("instructor")
    for mode in ("TOOLS", "JSON_SCHEMA"):
        client = instructor.from_openai(server.openai(), mode=getattr(instructor.Mode, mode))
        ask = dict(model="tiny", messages=user("hello"), response_model=Answer, max_retries=0, max_tokens=60, seed=3)
        *_, last = client.chat.completions.create_partial(**ask)
        assert isinstance(Answer(**last.model_dump()), Answer), mode


def test_pydantic_ai(server):
    ai = pytest.importorskip("pydantic_ai")
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    provider = OpenAIProvider(base_url=f"{server.address}/v1", api_key="any")
    model = OpenAIChatModel("tiny", provider=provider)
    settings = {"max_tokens": 40, "seed": 3}
    assert ai.Agent(model, model_settings=settings).run_sync("hello").output == text(server)
    agent = ai.Agent(model, output_type=Answer, model_settings=settings)
    assert isinstance(agent.run_sync("hello").output, Answer)
    native = ai.Agent(model, output_type=ai.NativeOutput(Answer), model_settings=settings)
    assert isinstance(native.run_sync("hello").output, Answer)
