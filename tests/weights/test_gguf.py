"""GGUF: what is written is read back, to the same logits and the same tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGUFReader, GGUFWriter
from test_formats import logits

import diffusiongemma as dg
from diffusiongemma.config import ModelConfig
from diffusiongemma.diffusion.decoding import Decoding
from diffusiongemma.errors import CheckpointError, InputError, UserError
from diffusiongemma.model.model import Model
from diffusiongemma.weights.checkpoint import load_model
from diffusiongemma.weights.formats.gguf import GGUF, config_of, decoding_of
from diffusiongemma.weights.formats.gguf_file import GGUFFile
from diffusiongemma.weights.formats.gguf_tokenizer import tokenizer_of
from diffusiongemma.weights.formats.gguf_writer import write_gguf
from diffusiongemma.weights.locate import ASSETS, load_tokenizer, locate
from diffusiongemma.weights.opening import Checkpoint
from diffusiongemma.weights.packed_modules import packed_of

NANO = ASSETS / "nano"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("gguf")
    paths = {}
    for name, kind in (("nano", "F32"), ("nano", "Q8_0"), ("nano", "Q4_0"), ("nano-base", "BF16")):
        checkpoint = Checkpoint.at(ASSETS / name)
        paths[kind] = folder / f"{name}-{kind}.gguf"
        model = load_model(ASSETS / name, torch.float32)
        write_gguf(model, checkpoint.tokenizer(), paths[kind], kind, checkpoint.decoding())
    return paths


@pytest.mark.parametrize(("name", "kind"), [("nano", "F32"), ("nano-base", "BF16")])
def test_a_model_answers_as_from_its_directory(written: dict[str, Path], name: str, kind: str) -> None:
    model, own = dg.load(written[kind]), dg.load(name)
    assert model.generation == own.generation and model.network.dtype == torch.float32
    prompts = ["Tell me the color of an emerald.", "In the morning, Jack"]
    answers = model.generate(prompts, seed=[3, 4], max_new_tokens=48)
    assert answers[0].tokens
    for answer, theirs in zip(answers, own.generate(prompts, seed=[3, 4], max_new_tokens=48), strict=True):
        assert (answer.text, answer.tokens, answer.steps) == (theirs.text, theirs.tokens, theirs.steps)
    assert torch.equal(logits(model.network), logits(own.network))


def test_the_head_is_read_as_the_gguf_package_reads_it(written: dict[str, Path]) -> None:
    ours, theirs = GGUFFile(written["Q4_0"]), GGUFReader(written["Q4_0"])
    own = {name: field for name, field in theirs.fields.items() if not name.startswith("GGUF.")}
    assert ours.fields == {name: field.contents() for name, field in own.items()}
    assert set(ours.tensors) == {tensor.name for tensor in theirs.tensors}
    for tensor in theirs.tensors:
        mine = ours.tensors[tensor.name]
        assert mine.kind == tensor.tensor_type.name and mine.shape == tuple(reversed(tensor.shape.tolist()))
        assert mine.raw.numpy().tobytes() == tensor.data.tobytes()


def test_few_bits_spare_what_decides(written: dict[str, Path]) -> None:
    kinds = {name: tensor.kind for name, tensor in GGUFFile(written["Q4_0"]).tensors.items()}
    assert kinds["blk.0.ffn_gate_up_exps.weight"] == kinds["blk.5.attn_q.weight"] == "Q4_0"
    assert kinds["token_embd.weight"] == kinds["self_cond_up.weight"] == "Q8_0"
    assert kinds["blk.0.ffn_gate_inp.weight"] == kinds["output_norm.weight"] == "F32"


def in_parts(path: Path, folder: Path, count: int, change: Callable = lambda tensor: [tensor]) -> Path:
    """The same model in several files, written by the `gguf` package -> the first of them."""
    read = GGUFReader(path)
    size = -(-len(read.tensors) // count)
    writer = GGUFWriter(folder / "model.gguf", "diffusion-gemma", split_max_tensors=size if count > 1 else 0)
    for name, field in read.fields.items():
        if not name.startswith("GGUF.") and name != "general.architecture":
            sub = field.types[1] if len(field.types) > 1 else None
            writer.add_key_value(name, field.contents(), field.types[0], sub)
    for tensor in read.tensors:
        for name, data, kind in change((tensor.name, tensor.data, tensor.tensor_type)):
            writer.add_tensor(name, np.ascontiguousarray(data), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return min(folder.glob("*.gguf"))


def test_split_files_are_one_model(written: dict[str, Path], tmp_path: Path) -> None:
    first = in_parts(written["Q8_0"], tmp_path, 3)
    assert [path.name for path in sorted(tmp_path.iterdir())] == [f"model-{i:05d}-of-00003.gguf" for i in (1, 2, 3)]
    assert locate(tmp_path) == first == locate(first)
    assert torch.equal(logits(load_model(first, torch.float32)), logits(load_model(written["Q8_0"], torch.float32)))


def test_experts_may_lie_apart(written: dict[str, Path], tmp_path: Path) -> None:
    def apart(tensor: tuple) -> list[tuple]:
        name, data, kind = tensor
        if "gate_up_exps" not in name:
            return [tensor]
        halves = zip(("gate", "up"), np.split(data, 2, 1), strict=True)
        return [(name.replace("gate_up", half), part, kind) for half, part in halves]

    path = in_parts(written["Q8_0"], tmp_path, 1, apart)
    model, whole = load_model(path, torch.float32), load_model(written["Q8_0"], torch.float32)
    torch.testing.assert_close(logits(model), logits(whole), atol=1e-5, rtol=0)
    write_gguf(model, load_tokenizer(NANO), tmp_path / "again.gguf", "Q4_0")  # blocks stay, joined
    assert torch.equal(logits(load_model(tmp_path / "again.gguf", torch.float32)), logits(whole))


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


def test_how_much_of_a_head_is_rotated_comes_with_it(tmp_path: Path) -> None:
    config = replace(ModelConfig.from_file(NANO / "config.json"), global_partial_rotary_factor=0.5, vision_config=None)
    torch.manual_seed(0)
    write_gguf(Model(config), load_tokenizer(NANO), tmp_path / "half.gguf")
    assert config_of(GGUF(tmp_path / "half.gguf")).global_partial_rotary_factor == 0.5


def test_decoding_of_files_by_others(written: dict[str, Path]) -> None:
    """Without this package's own keys, and with a turn's end among the tokens."""
    file = GGUF(written["F32"])
    released = Decoding()
    for key in [key for key in file.fields if key.startswith(("diffusiongemma.", "diffusion.eb_"))]:
        del file.fields[key]
    decoding = decoding_of(file)
    turn_end = file.fields["tokenizer.ggml.tokens"].index("<turn|>")
    assert set(decoding.eos_token_ids) >= {file.fields["tokenizer.ggml.eos_token_id"], turn_end}
    assert decoding.with_options(eos_token_ids=released.eos_token_ids) == released
    file.fields["diffusion.eb_entropy_bound"] = -1.0
    with pytest.raises(CheckpointError, match="eb_entropy_bound"):
        decoding_of(file)


def test_a_file_cut_off_or_of_another_kind_says_so(written: dict[str, Path], tmp_path: Path) -> None:
    whole = written["Q8_0"].read_bytes()
    for size in (3, 2000, len(whole) - 100_000):
        cut = tmp_path / f"{size}.gguf"
        cut.write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match=f"{size}.gguf"):
            load_model(cut)
    (tmp_path / "other.gguf").write_bytes(b"GGML" + whole[4:])
    with pytest.raises(CheckpointError, match="not a GGUF file"):
        load_model(tmp_path / "other.gguf")
    with pytest.raises(CheckpointError, match="-00002-of-00002"):
        first = tmp_path / "model-00001-of-00002.gguf"
        first.write_bytes(whole)
        config_of(GGUF(first))


def test_what_does_not_belong_is_named_with_its_type(written: dict[str, Path], tmp_path: Path) -> None:
    def renamed(tensor: tuple) -> list[tuple]:
        return [("blk.0.surplus.weight", *tensor[1:]) if tensor[0] == "blk.0.attn_q.weight" else tensor]

    with pytest.raises(CheckpointError, match=r"blk\.0\.surplus\.weight"):
        load_model(in_parts(written["Q8_0"], tmp_path, 1, renamed))
    raw = bytearray(written["F32"].read_bytes())
    name = b"blk.0.attn_q.weight"
    at = raw.index(name) + len(name) + 4 + 2 * 8  # after the number of dimensions and two of them
    raw[at : at + 4] = (999).to_bytes(4, "little")
    (tmp_path / "newer.gguf").write_bytes(raw)
    with pytest.raises(CheckpointError, match=r"attn_q\.weight is of type 999"):
        load_model(tmp_path / "newer.gguf")
    raw[at : at + 4] = (24).to_bytes(4, "little")  # I8, which is no weight
    (tmp_path / "newer.gguf").write_bytes(raw)
    with pytest.raises(CheckpointError, match=r"attn_q\.weight.*I8"):
        load_model(tmp_path / "newer.gguf")


def test_what_cannot_be_written_so_says_so(tmp_path: Path) -> None:
    model, tokenizer = load_model(NANO, torch.float32), load_tokenizer(NANO)
    with pytest.raises(InputError, match="Q8_0"):
        write_gguf(model, tokenizer, tmp_path / "a.gguf", "Q9")
    with pytest.raises(UserError, match="cannot write"):
        write_gguf(model, tokenizer, tmp_path / "absent" / "a.gguf")
    narrow = replace(model.config, hidden_size=40, vision_config=None)
    with pytest.raises(InputError, match=r"rows of 40"):
        write_gguf(Model(narrow), tokenizer, tmp_path / "a.gguf", "Q8_0")
    assert not list(tmp_path.iterdir())
