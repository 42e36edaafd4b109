"""Imitated pictures: what the text model is taught to see lies where the processor puts it."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from transformers import AutoTokenizer

from diffusiongemma.chat import encode_prompt
from diffusiongemma.media import MediaSettings
from diffusiongemma.tasks import sudoku
from recipes.nano.sources.pictured import AT, SQUARES, Pictured, squares
from recipes.nano.train import NANO, nano_config

PUZZLE = np.arange(81) % 10
SOLUTION = np.arange(81) % 9 + 1


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(NANO)


def test_digits_lie_in_the_squares_of_their_cells():
    shown = np.array(squares(PUZZLE)).reshape(SQUARES, SQUARES)
    assert (shown[np.ix_(AT, AT)].flatten() == [str(d) if d else "." for d in PUZZLE]).all()
    assert (shown != ".").sum() == (PUZZLE > 0).sum()
    assert len(set(AT)) == 9 and max(AT) < SQUARES


def test_a_prompt_is_that_of_a_real_picture_but_for_the_soft_tokens(tokenizer):
    config = nano_config(tokenizer)
    made = Pictured(tokenizer, config).example(np.random.default_rng(3), PUZZLE, SOLUTION)
    text = tokenizer.decode(made.prompt).split("<image|>")[1].split("<turn|>")[0]
    content = [{"type": "image", "image": Image.new("RGB", (432, 432))}, {"type": "text", "text": text}]
    real = encode_prompt(
        [{"role": "user", "content": content if text else content[:1]}],
        tokenizer,
        config,
        media=MediaSettings(image_tokens=140),
    )
    (start, end) = real.image_spans[0]
    assert end - start == SQUARES**2
    assert made.prompt[:start] == real.ids[:start] and made.prompt[end:] == real.ids[end:]
    assert tokenizer.convert_ids_to_tokens(made.prompt[start:end]) == squares(PUZZLE)
    assert tokenizer.decode(made.answer[: made.length]) == sudoku.format_solution(SOLUTION) + "<turn|>"
