"""What a body may hold beside what its model declares: fields that change nothing at their value.

The rule, as docs/serving.md has it: null and what is empty say nothing in any field. The fields below change nothing at
the values beside them. Any other field that is not declared is refused by its name or, with `--lenient`, left out and
told of in a header.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, ClassVar

from pydantic import model_validator

from diffusiongemma.serve.body_types import Strict

ANY = ("any value",)  # accounting, caching, hints: no value changes the answer
Values = tuple[Any, ...]

IGNORED_HEADER = b"x-ignored-fields"
# The names of fields that were left out of the request at hand; None where a server is strict.
ignored: ContextVar[dict[str, None] | None] = ContextVar("ignored", default=None)

EVERYWHERE: Mapping[str, Values] = dict.fromkeys(["cache_control", "provider_options", "providerOptions"], ANY)
OF_REQUESTS: Mapping[str, Values] = {
    **EVERYWHERE,
    # whose request it is, what it may cost, what is kept of it
    **dict.fromkeys(["user", "user_id", "metadata", "client_metadata", "safety_identifier", "request_id"], ANY),
    **dict.fromkeys(["session_id", "trace_id", "trace", "tags", "store", "service_tier", "priority"], ANY),
    **dict.fromkeys(["prompt_cache_key", "prompt_cache_retention", "prompt_cache_options", "cache_prompt"], ANY),
    **dict.fromkeys(["verbosity", "prediction", "provider", "usage", "timeout", "keep_alive", "cache_salt"], ANY),
    **dict.fromkeys(["id_slot", "slot_id", "num_ctx", "num_batch", "num_gpu", "num_thread", "use_mmap"], ANY),
    **dict.fromkeys(["num_keep", "numa", "main_gpu", "low_vram", "vocab_only", "use_mlock", "f16_kv"], ANY),
    **dict.fromkeys(["betas", "anthropic_beta", "anthropic_version", "context_management", "security"], ANY),
    # features, switched off or as they are
    **dict.fromkeys(["echo", "ignore_eos", "use_beam_search", "early_stopping", "return_token_ids"], (False,)),
    **dict.fromkeys(["include_stop_str_in_output", "return_progress", "timings_per_token", "return_tokens"], (False,)),
    **dict.fromkeys(["post_sampling_probs", "background", "return_tokens_as_token_ids", "penalize_nl"], (False,)),
    **dict.fromkeys(["skip_special_tokens", "do_sample", "include_reasoning", "separate_reasoning"], (True,)),
    **dict.fromkeys(["spaces_between_special_tokens", "add_special_tokens", "stream_reasoning"], (True, False)),
    **dict.fromkeys(["best_of", "num_beams"], (1,)),
    **dict.fromkeys(["n_probs", "n_discard", "prompt_logprobs"], (0, False)),
    **dict.fromkeys(["n_keep", "min_keep", "t_max_prompt_ms", "guided_decoding_backend"], ANY),
    "reasoning_format": ("auto", "deepseek", "parsed"),
    "length_penalty": (1, 0),
    "truncate_prompt_tokens": (-1,),
    "function_call": ("none", "auto"),
    "truncation": ("disabled", "auto"),
    "modalities": (["text"],),
    # ways of sampling that this model has not, at what switches them off
    **dict.fromkeys(["top_a", "xtc_probability", "dry_multiplier", "mirostat", "dynatemp_range"], (0,)),
    **dict.fromkeys(["smoothing_factor", "no_repeat_ngram_size"], (0,)),
    **dict.fromkeys(["top_n_sigma", "adaptive_target"], (-1, 0)),
    **dict.fromkeys(["typical_p", "typical", "tfs", "tfs_z", "repeat_penalty"], (1,)),
    # what only refines a way of sampling that is off
    **dict.fromkeys(["xtc_threshold", "dry_base", "dry_allowed_length", "dry_penalty_last_n"], ANY),
    **dict.fromkeys(["dry_sequence_breakers", "mirostat_tau", "mirostat_eta", "dynatemp_exponent"], ANY),
    **dict.fromkeys(["repeat_last_n", "adaptive_decay", "samplers", "penalty_last_n"], ANY),
}  # fmt: skip


def also(**fields: Values) -> Mapping[str, Values]:
    """What is harmless everywhere, and these."""
    return {**EVERYWHERE, **fields}


class Tolerant(Strict):
    """A body or a part of one that takes `harmless` fields at the values that change nothing."""

    harmless: ClassVar[Mapping[str, Values]] = EVERYWHERE

    @model_validator(mode="before")
    @classmethod
    def _without_what_changes_nothing(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        fields = {field.alias or name: field for name, field in cls.model_fields.items()}
        kept = {}
        for name, value in data.items():
            field = fields.get(name)
            if field is None and (changes_nothing(name, value, cls.harmless) or _left_out(name)):
                continue
            if value is None and field is not None and not field.is_required():
                continue
            kept[name] = value
        return kept


class Asking(Tolerant):
    """The body of a request that generates."""

    harmless = OF_REQUESTS


def changes_nothing(name: str, value: Any, harmless: Mapping[str, Values]) -> bool:
    """Whether the answer is the same without this field, which its model does not declare."""
    if value is None or value in ("", [], {}):
        return True
    values = harmless.get(name, ())
    return values is ANY or any(type(value) is type(one) and value == one for one in _spelled(values))


def advice(name: str) -> str:
    """What to do about a field that is refused, for the end of a sentence."""
    values = OF_REQUESTS.get(name, ())
    return "leave it out" + (f" or send {' or '.join(map(repr, values))}" if values and values is not ANY else "")


def _spelled(values: Values) -> Values:
    """Numbers as whole ones and as floats, so that True is not 1."""
    return values + tuple(float(value) for value in values if isinstance(value, int) and not isinstance(value, bool))


def _left_out(name: str) -> bool:
    names = ignored.get()
    if names is not None:
        names[name] = None
    return names is not None
