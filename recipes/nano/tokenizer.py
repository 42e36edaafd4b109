"""`python -m recipes.nano tokenizer OUT`: the embedded models' tokenizer, byte-level BPE of 4,096 entries.

Lossless for any Unicode text. Each digit and each newline is a token of its own, so that numbers and line ends are
edited one at a time; so is each structural character of JSON, so that a grammar can decide each one, and the full
stop, which marks a blank in puzzles.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from diffusiongemma.chat import TEMPLATE_FILE
from diffusiongemma.evaluation.corpora import Corpus, fetch_corpora

VOCABULARY = 4096
# Attribute names as in the release's tokenizer, so that transformers' Gemma 4 processor finds what it asks for.
BASE_TOKENS = {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>", "unk_token": "<unk>"}
MARKUP_TOKENS = {
    "sot_token": "<|turn>",
    "eot_token": "<turn|>",
    "think_token": "<|think|>",
    "soc_token": "<|channel>",
    "eoc_token": "<channel|>",
    "std_token": "<|tool>",
    "etd_token": "<tool|>",
    "stc_token": "<|tool_call>",
    "etc_token": "<tool_call|>",
    "str_token": "<|tool_response>",
    "etr_token": "<tool_response|>",
    "escape_token": '<|"|>',
    "boi_token": "<|image>",
    "image_token": "<|image|>",
    "eoi_token": "<image|>",
    "video_token": "<|video|>",
    "boa_token": "<|audio>",  # the model hears nothing, but the processor refuses a tokenizer without these three
    "audio_token": "<|audio|>",
    "eoa_token": "<audio|>",
}
PREPROCESSOR = {
    "image_processor_type": "Gemma4ImageProcessor",
    "patch_size": 16,
    "pooling_kernel_size": 3,
    "max_soft_tokens": 70,
}
# The first alternative that matches cuts the next piece; merges never cross pieces.
PIECES = "|".join(
    (
        r"\n",
        r"\p{N}",
        r"'(?:[sdmt]|ll|ve|re)(?!\p{L})",
        r" ?\p{L}[\p{L}\p{M}]*",
        r' ?["{}\[\],:.]',
        r' ?[^\s\p{L}\p{N}"{}\[\],:.]+',
        r"[^\S\n]+(?!\S)",
        r"[^\S\n]+",
    )
)
# Characters taken of each source (repeated if it has fewer): prose first, then facts as JSON, then code.
SHARES = {
    "austen": 2_000_000,
    "bible": 1_500_000,
    "wordnet": 7_000_000,
    "chatterbot": 600_000,
    "factbook": 3_000_000,
    "python": 1_500_000,
}
INSTRUCTIONS = (
    "system\nuser\nmodel\ntool\nthought\ndeclaration:search call:search response:search",  # the words of the markup
    "Answer the question in one sentence.",
    "Write a short story about a child and a dog.",
    "Return a JSON object with the keys name, type and description.",
    "Fill in the missing words. Keep the rest of the text as it is.",
    "Rewrite the sentence so that it is shorter. Change nothing else.",
    "What does this word mean? Give an example.",
    "Write a function that returns the sum of a list of numbers.",
    "Correct the spelling in the following text.",
    "You are a helpful assistant. The user asks, the model answers.",
    '{"name": "search", "description": "Search the web.", "parameters": {"type": "object", "properties": '
    '{"query": {"type": "string"}}, "required": ["query"]}}',
    '[{"id": 1, "title": "first", "done": true, "score": 0.5}, {"id": 2, "title": "second", "done": false}]',
)


def train_tokenizer(documents: Iterable[str]) -> Any:
    """A `tokenizers.Tokenizer` of `VOCABULARY` entries: special tokens, then the 256 bytes, then merges."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[*BASE_TOKENS.values(), *MARKUP_TOKENS.values()],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        max_token_length=16,
        show_progress=False,
    )
    tokenizer.train_from_iterator(documents, trainer)
    return tokenizer


def save_tokenizer(tokenizer: Any, out: Path) -> None:
    """Write what `AutoTokenizer.from_pretrained(out)` and `AutoImageProcessor.from_pretrained(out)` read."""
    from transformers import PreTrainedTokenizerFast

    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        clean_up_tokenization_spaces=False,
        extra_special_tokens=MARKUP_TOKENS,
        **BASE_TOKENS,
    )
    wrapped.chat_template = TEMPLATE_FILE.read_text(encoding="utf-8")
    out.mkdir(parents=True, exist_ok=True)
    wrapped.save_pretrained(out)
    (out / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR, indent=2) + "\n")


def mixed_documents(corpora: dict[str, Corpus]) -> Iterator[str]:
    """Documents of every corpus up to its share of `SHARES`, then the instructions."""
    for name, corpus in corpora.items():
        yield from _take(itertools.cycle(list(corpus.documents())), SHARES[name])
    yield from INSTRUCTIONS * 1000


def _take(documents: Iterator[str], characters: int) -> Iterator[str]:
    while characters > 0:
        document = next(documents)
        yield document[:characters]
        characters -= len(document)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", type=Path, metavar="OUT", help="directory for the tokenizer")
    parser.add_argument("--corpora", type=Path, default=Path("runs/corpora"), help="where texts are fetched to")


def run(options: argparse.Namespace) -> None:
    corpora = fetch_corpora(options.corpora)
    save_tokenizer(train_tokenizer(mixed_documents(corpora)), options.out)
    for corpus in corpora.values():
        print(f"{corpus.name} {corpus.version} ({corpus.licence})")
