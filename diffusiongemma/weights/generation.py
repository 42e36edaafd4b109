"""A checkpoint's decoding rules: `generation_config.json`, in Hugging Face's flat names, and `decoding.json`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diffusiongemma.config import ModelConfig, read_json
from diffusiongemma.diffusion.decoding import Decoding
from diffusiongemma.errors import CheckpointError, InputError

OWN = ("patience", "verify")  # options that transformers refuses in its file; `decoding.json` has them
# Hugging Face's names of our options, where they differ and where they do not.
_NAMES = {
    "max_new_tokens": "max_new_tokens",
    "max_denoising_steps": "steps",
    "t_min": "t_min",
    "t_max": "t_max",
    "stability_threshold": "stability_threshold",
    "confidence_threshold": "confidence_threshold",
}


def load_decoding(directory: Path, model: ModelConfig) -> Decoding:
    """The rules of a checkpoint. Raises `CheckpointError`."""
    paths = (directory / "generation_config.json", directory / "decoding.json")
    raw, own = (read_json(path) if path.exists() else {} for path in paths)
    return _from_hf(raw, model, own)


def _from_hf(raw: dict[str, Any], model: ModelConfig, own: dict[str, Any]) -> Decoding:
    """From the contents of `generation_config.json`, and of `decoding.json`, which has what transformers lacks (`OWN`);
    what is absent or null stays as released. Raises `CheckpointError` naming the file."""
    if unknown := set(own) - set(OWN):
        raise CheckpointError(f"decoding.json: {min(unknown)!r} is none of {', '.join(OWN)}")
    ends = model.eos_token_id if raw.get("eos_token_id") is None else raw["eos_token_id"]
    values = {ours: raw.get(theirs) for theirs, ours in _NAMES.items()}
    values["entropy_bound"] = (raw.get("sampler_config") or {}).get("entropy_bound")
    values["eos_token_ids"] = (ends,) if isinstance(ends, int) else ends
    try:
        return Decoding.of(**{name: value for name, value in (values | own).items() if value is not None})
    except InputError as error:
        file = "decoding.json" if error.option in own else "generation_config.json"
        raise CheckpointError(f"{file}: {error}") from error


def decoding_files(decoding: Decoding, model: ModelConfig) -> dict[str, dict[str, Any]]:
    """The contents of the files that say it: `decoding.json` is among them where there is what transformers lacks."""
    options, released = decoding.options(), Decoding().options()
    shared = {
        **{theirs: options[ours] for theirs, ours in _NAMES.items()},
        "sampler_config": {"_cls_name": "EntropyBoundSamplerConfig", "entropy_bound": options["entropy_bound"]},
        "eos_token_id": list(decoding.eos_token_ids),
        "pad_token_id": model.pad_token_id,
        "bos_token_id": model.bos_token_id,
    }
    own = {name: options[name] for name in OWN if options[name] != released[name]}
    return {"generation_config.json": shared} | ({"decoding.json": own} if own else {})
