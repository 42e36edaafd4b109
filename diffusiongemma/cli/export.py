"""`diffusiongemma export`: a model in another program's format."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from diffusiongemma.errors import InputError

TYPES = ("BF16", "F16", "F32", "Q8_0", "Q5_0", "Q4_0")

Gguf = Annotated[Path | None, typer.Option(metavar="FILE", help="Write one GGUF file, as llama.cpp's forks read.")]
Type = Annotated[
    str, typer.Option(metavar="|".join(TYPES), help="Of the matrices. Embedding and self-conditioning keep 8 bits.")
]


def export(
    model: Annotated[str, typer.Argument(metavar="nano|PATH|HUB_ID", help="A model, or an adapter of one.")],
    gguf: Gguf = None,
    type: Type = "BF16",
) -> None:
    """Write a model in another program's format; an adapter is merged into its base model."""
    from rich.console import Console

    if gguf is None:
        raise InputError("say what to write: give `gguf` FILE")
    if type not in TYPES:
        raise InputError(f"choose {', '.join(TYPES)}", option="type", got=type)
    if gguf.exists():
        raise InputError(f"{gguf} exists: give a new file")
    from diffusiongemma.api import load
    from diffusiongemma.weights.formats.gguf_writer import write_gguf
    from diffusiongemma.weights.lora import merge

    with Console(stderr=True).status(f"loading {model}") as status:
        loaded = load(model, device="cpu")
        if loaded.tokenizer is None:
            raise InputError(f"{model} has no tokenizer files, and a GGUF file must: copy them there")
        merge(loaded.network)
        write_gguf(loaded.network, loaded.tokenizer, gguf, type, loaded.generation, lambda name: status.update(name))
    note = "" if loaded.config.vision_config is None else "; without the vision tower, which such files have not"
    print(f"{gguf}: {gguf.stat().st_size / 1e6:,.1f} MB{note}", file=sys.stdout)
