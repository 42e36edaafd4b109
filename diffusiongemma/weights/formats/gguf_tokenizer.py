"""The tokenizer in a GGUF file, and one's own put into one."""

from __future__ import annotations

import json
from typing import Any

from diffusiongemma.chat.messages import MARKERS
from diffusiongemma.errors import CheckpointError
from diffusiongemma.weights.formats.gguf import GGUF

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)  # `tokenizer.ggml.token_type`
SPACE = "▁"
WHOLE = "tokenizer.huggingface.json"  # of the GGUF specification: the contents of tokenizer.json


def tokenizer_of(file: GGUF) -> Any:
    """The tokenizer, with the chat template of the file. Raises `CheckpointError` for a kind that is not read here."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    whole = file.value(WHOLE, str, "")
    backend = Tokenizer.from_str(whole) if whole else _from_pieces(file)
    named = {f"{role}_token": file.value(f"tokenizer.ggml.{key}_token_id", int, -1) for role, key in _ROLES.items()}
    names = {role: backend.id_to_token(token) for role, token in named.items() if token >= 0}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, clean_up_tokenization_spaces=False, **names)
    if template := file.value("tokenizer.chat_template", str, ""):
        tokenizer.chat_template = template
    return tokenizer


_ROLES = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}


def _from_pieces(file: GGUF) -> Any:
    """Gemma's own kind: pairs of pieces merged in order, spaces as ▁, bytes for what has no piece."""
    from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers
    from tokenizers.models import BPE

    kind = file.value("tokenizer.ggml.model", str)
    if kind != "gemma4":
        raise CheckpointError(f"{file.directory}: a tokenizer of kind {kind!r} without {WHOLE}, expected 'gemma4'")
    tokens = file.value("tokenizer.ggml.tokens", list)
    types = file.value("tokenizer.ggml.token_type", list)
    merges = [tuple(pair.split(" ", 1)) for pair in file.value("tokenizer.ggml.merges", list)]
    unknown = tokens[file.value("tokenizer.ggml.unknown_token_id", int, 3)]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    tokenizer = Tokenizer(BPE(vocabulary, merges, unk_token=unknown, fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", SPACE)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    # Some files say of a marker of the chat template that it is an ordinary token.
    control = [t for t, kind in zip(tokens, types, strict=True) if kind in (CONTROL, UNKNOWN) or t in MARKERS]
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in control])
    own = [t for t, kind in zip(tokens, types, strict=True) if kind == USER_DEFINED and t not in MARKERS]
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in own])
    return tokenizer


def write_tokenizer(writer: Any, tokenizer: Any) -> None:
    """Everything that `tokenizer_of` and llama.cpp read; the latter only knows Gemma's own kind."""
    raw = json.loads(tokenizer.backend_tokenizer.to_str())
    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    added = {token["id"]: token["special"] for token in raw["added_tokens"]}
    gemma = raw["model"].get("byte_fallback", False)
    writer.add_string(WHOLE, json.dumps(raw, ensure_ascii=False))
    writer.add_tokenizer_model("gemma4" if gemma else "gpt2")
    writer.add_token_list(tokens)
    writer.add_token_scores([-float(i) for i in range(len(tokens))])
    writer.add_token_types([_type_of(i, token, added, gemma) for i, token in enumerate(tokens)])
    writer.add_token_merges([" ".join(pair) for pair in raw["model"]["merges"]])
    for role, key in _ROLES.items():
        if (token := getattr(tokenizer, f"{role}_token_id")) is not None:
            writer.add_uint32(f"tokenizer.ggml.{key}_token_id", token)
    writer.add_bool("tokenizer.ggml.add_bos_token", True)
    writer.add_bool("tokenizer.ggml.add_space_prefix", False)
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)


def _type_of(token_id: int, token: str, added: dict[int, bool], gemma: bool) -> int:
    if token_id in added:
        return CONTROL if added[token_id] else USER_DEFINED
    return BYTE if gemma and len(token) == 6 and token.startswith("<0x") and token.endswith(">") else NORMAL
