"""OpenAI's client against `diffusiongemma serve`, which this program starts and stops itself.

With the address of a running server as the only argument it uses that one.
"""

from __future__ import annotations

import subprocess
import sys

from openai import OpenAI


def talk_to(address: str) -> None:
    client = OpenAI(base_url=address, api_key="any")
    message = {"role": "user", "content": "Tell me the color of an emerald."}
    reply = client.chat.completions.create(model="nano", messages=[message], seed=7)
    print("reply: ", reply.choices[0].message.content)

    stream = client.chat.completions.create(
        model="nano", messages=[message], seed=7, stream=True, extra_body={"diffusion": {"early_text": True}}
    )
    print("stream:", "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices))


if sys.argv[1:]:
    talk_to(sys.argv[1])
else:
    command = [sys.executable, "-m", "diffusiongemma", "serve", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            talk_to(next(word for line in server.stdout for word in line.split() if word.endswith("/v1")))
        finally:
            server.terminate()
