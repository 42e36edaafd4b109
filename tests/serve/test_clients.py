"""Libraries that stand between programs and a server: each must find what it expects."""

from __future__ import annotations

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


def test_instructor(server):
    instructor = pytest.importorskip("instructor")
    modes = ("TOOLS", "TOOLS_STRICT", "JSON_SCHEMA", "JSON")
    for mode in modes:
        client = instructor.from_openai(server.openai(), mode=getattr(instructor.Mode, mode))
        ask = dict(model="tiny", messages=user("hello"), response_model=Answer, max_retries=0, **ASK)
        if mode == "JSON":  # any object is JSON: the schema is in the prompt alone, and this model cannot read it
            with pytest.raises(Exception, match="validation error"):
                client.chat.completions.create(**ask)
            continue
        assert isinstance(client.chat.completions.create(**ask), Answer), mode


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
