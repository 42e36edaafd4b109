"""GGUF: what is written is read back, to the same logits and the same tokens."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from test_formats import logits

from diffusiongemma.config import ModelConfig
from diffusiongemma.errors import CheckpointError
from diffusiongemma.weights.checkpoint import load_model
from diffusiongemma.weights.formats.gguf import GGUF, config_of
from diffusiongemma.weights.formats.gguf_tokenizer import tokenizer_of
from diffusiongemma.weights.formats.gguf_writer import write_gguf
from diffusiongemma.weights.locate import ASSETS, load_tokenizer
from diffusiongemma.weights.packed_modules import packed_of

NANO = ASSETS / "nano"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("gguf")
    model, tokenizer = load_model(NANO, torch.float32), load_tokenizer(NANO)
    paths = {kind: folder / f"nano-{kind}.gguf" for kind in ("F32", "Q8_0")}
    for kind, path in paths.items():
        write_gguf(model, tokenizer, path, kind)
    return paths


def test_full_precision_comes_back_bit_for_bit(written: dict[str, Path]) -> None:
    model = load_model(written["F32"], torch.float32)
    assert torch.equal(logits(model), logits(load_model(NANO, torch.float32)))
    ours, theirs = model.config, ModelConfig.from_file(NANO / "config.json")
    assert ours.layer_types == theirs.layer_types and ours.rms_norm_eps == theirs.rms_norm_eps
    assert ours.canvas_length == theirs.canvas_length and ours.vision_config is None


def test_blocks_stay_blocks(written: dict[str, Path]) -> None:
    model = load_model(written["Q8_0"], torch.float32)
    packed = packed_of(model)
    assert len(packed) > 40 and {type(one).__name__ for one in packed.values()} == {"Blocks"}
    full = load_model(NANO, torch.float32)
    for name, one in packed.items():
        full.get_parameter(name).data.copy_(one.unpack())
    torch.testing.assert_close(logits(model), logits(full), atol=1e-4, rtol=0)


def test_the_tokenizer_comes_with_it(written: dict[str, Path]) -> None:
    tokenizer, own = tokenizer_of(GGUF(written["F32"])), load_tokenizer(NANO)
    text = "<|turn>user\nSolve 12 + 3, étude 漢字 \U0001f642!<turn|>\n"
    assert tokenizer.encode(text, add_special_tokens=False) == own.encode(text, add_special_tokens=False)
    ids = own.encode(text, add_special_tokens=False)
    assert tokenizer.decode(ids) == own.decode(ids)
    assert (tokenizer.bos_token, tokenizer.eos_token) == (own.bos_token, own.eos_token)
    assert tokenizer.chat_template == own.chat_template


def test_a_file_cut_off_or_of_another_kind_says_so(written: dict[str, Path], tmp_path: Path) -> None:
    whole = written["Q8_0"].read_bytes()
    for size in (3, 2000, len(whole) - 100_000):
        cut = tmp_path / f"{size}.gguf"
        cut.write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match=f"{size}.gguf"):
            load_model(cut)
    with pytest.raises(CheckpointError, match="-00002-of-00002"):
        first = tmp_path / "model-00001-of-00002.gguf"
        first.write_bytes(whole)
        config_of(GGUF(first))
