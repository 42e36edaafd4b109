"""LangChain's and LiteLLM's OpenAI adapters against a server of ours, where they are installed.

    pip install langchain-openai litellm
    python bench/clients.py [--model nano]

Prints one line for each; exits with 1 if one that is installed fails.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Callable

from soak import served

WORD = {"type": "object", "properties": {"word": {"type": "string", "maxLength": 8}}, "required": ["word"]}


def langchain(address: str, model: str) -> None:
    from langchain_openai import ChatOpenAI

    chat = ChatOpenAI(base_url=f"{address}/v1", api_key="any", model=model, seed=1, max_tokens=40)  # type: ignore[arg-type]
    whole = chat.invoke("Hello").content
    assert "".join(str(chunk.content) for chunk in chat.stream("Hello")) == whole
    shaped = chat.with_structured_output({"title": "answer", **WORD}, method="json_schema").invoke("Hello")
    assert isinstance(shaped["word"], str), shaped  # type: ignore[index]
    tool = {"type": "function", "function": {"name": "say", "description": "Say it.", "parameters": WORD}}
    (call,) = chat.bind_tools([tool], tool_choice="required").invoke("Hello").tool_calls
    assert call["name"] == "say" and isinstance(call["args"]["word"], str)


def litellm(address: str, model: str) -> None:
    from litellm import completion

    ask = dict(model=f"openai/{model}", api_base=f"{address}/v1", api_key="any", seed=1, max_tokens=40)
    messages = [{"role": "user", "content": "Hello"}]
    whole = completion(messages=messages, **ask).choices[0].message.content
    chunks = completion(messages=messages, stream=True, **ask)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole


CLIENTS: dict[str, tuple[str, Callable[[str, str], None]]] = {
    "LangChain": ("langchain_openai", langchain),
    "LiteLLM": ("litellm", litellm),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano")
    options = parser.parse_args()
    failed = False
    with served(options.model) as address:
        for name, (module, smoke) in CLIENTS.items():
            if importlib.util.find_spec(module) is None:
                print(f"{name}: not installed (pip install {module.replace('_', '-')})")
                continue
            try:
                smoke(address, options.model)
                print(f"{name}: works")
            except Exception as error:
                failed = True
                print(f"{name}: {type(error).__name__}: {error}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
