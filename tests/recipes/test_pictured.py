"""Imitated pictures: what the text model is taught to see lies where the processor puts it."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from transformers import AutoTokenizer

from diffusiongemma.chat import encode_prompt, render
from diffusiongemma.media import MediaSettings
from diffusiongemma.tasks import sudoku
from diffusiongemma.train.data import tokenise
from diffusiongemma.weights.locate import ASSETS
from recipes.nano.seeing import PAGE, SOFT_TOKENS
from recipes.nano.sources.pictured import COLUMNS, ROWS, Pictured, read_out, squares
from recipes.nano.train import NANO, nano_config

PUZZLE = np.arange(81) % 10
SOLUTION = np.arange(81) % 9 + 1


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(NANO)


def test_a_page_reads_as_the_board_typed(tokenizer):
    typed = sudoku.format_puzzle(PUZZLE).split(":\n")[1]
    shown = read_out(squares(PUZZLE))
    assert shown.lstrip("\n") == typed and len(shown) == COLUMNS * ROWS
    assert len(tokenizer(shown, add_special_tokens=False).input_ids) == COLUMNS * ROWS < SOFT_TOKENS
    assert PAGE == (9 * 48, COLUMNS * 48, ROWS * 48)


def test_a_prompt_is_that_of_a_real_picture_but_for_the_soft_tokens(tokenizer):
    config = nano_config(tokenizer)
    made = Pictured(tokenizer, config).example(np.random.default_rng(3), PUZZLE, SOLUTION)
    text = tokenizer.decode(made.prompt).split("<|turn>user\n")[1].split("<|image>")[0]
    content = [{"type": "image", "image": Image.new("RGB", (432, 432))}, {"type": "text", "text": text}]
    real = encode_prompt(
        [{"role": "user", "content": content if text else content[:1]}],
        tokenizer,
        config,
        media=MediaSettings(image_tokens=SOFT_TOKENS, page=PAGE),
    )
    (start, end) = real.image_spans[0]
    assert end - start == COLUMNS * ROWS
    assert made.prompt[:start] == real.ids[:start] and made.prompt[end:] == real.ids[end:]
    assert tokenizer.decode(made.prompt[start:end]) == read_out(squares(PUZZLE))
    assert tokenizer.decode(made.answer[: made.length]) == sudoku.format_solution(SOLUTION) + "<turn|>"


def test_a_picture_reads_as_the_board_typed_but_for_its_marks(tokenizer):
    """The mark behind it is the end of the turn, so that every digit is as far from the answer."""
    config = nano_config(tokenizer)
    made = Pictured(tokenizer, config)
    for seed in range(20):
        prompt = made.example(np.random.default_rng(seed), PUZZLE, SOLUTION).prompt
        (first, last) = (prompt.index(mark) for mark in (config.boi_token_id, config.eoi_token_id))
        request = tokenizer.decode(prompt[:first]).removeprefix("<bos><|turn>user\n")
        (typed,) = tokenise([(request + read_out(squares(PUZZLE)), "")], tokenizer, config)
        turn = tokenizer.convert_tokens_to_ids("<turn|>")
        assert [*prompt[:first], *prompt[first + 1 : last], turn, *prompt[last + 1 :]] == typed.prompt or not request


def test_the_template_is_the_fallback_but_for_the_place_of_pictures(tokenizer):
    ours, fallback = (
        (ASSETS / name / "chat_template.jinja").read_text().splitlines() for name in ("nano", "nano-base")
    )
    assert len(set(ours[2:]) - set(fallback)) == 3, "the end of a turn behind a picture"
    text = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"}]
    assert render(text, tokenizer) == tokenizer.apply_chat_template(
        text, chat_template="\n".join(fallback), tokenize=False, add_generation_prompt=True
    )
