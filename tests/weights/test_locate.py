"""Which files are the model: in a directory, and in a repository of the hub before anything large is fetched."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError

import diffusiongemma as dg
from diffusiongemma.errors import CheckpointError, ModelNotFound
from diffusiongemma.weights import locate as places
from diffusiongemma.weights.choosing import choose_files
from diffusiongemma.weights.formats.gguf_writer import write_gguf
from diffusiongemma.weights.locate import ASSETS, choose_dtype, locate

SEVERAL = ["m-Q8_0.gguf", "m-Q4_K_M.gguf", "m-UD-Q4_K_M.gguf", "m-IQ4_XS.gguf", "mmproj-m-F16.gguf", "README.md"]


@pytest.mark.parametrize(
    ("names", "variant", "chosen"),
    [
        (["model.safetensors", "config.json"], None, None),
        (["m-Q8_0.gguf", "model.safetensors"], None, None),
        (["m-Q8_0.gguf", "model.safetensors"], "Q8_0", "m-Q8_0.gguf"),
        (["m-Q8_0.gguf", "config.json", "mmproj.gguf"], None, "m-Q8_0.gguf"),
        (SEVERAL, None, "m-Q4_K_M.gguf"),
        (SEVERAL, "q8_0", "m-Q8_0.gguf"),
        (SEVERAL, "UD-Q4_K_M", "m-UD-Q4_K_M.gguf"),
        (SEVERAL, "m-IQ4_XS.gguf", "m-IQ4_XS.gguf"),
        (["Q2_K/m-00001-of-00002.gguf", "Q2_K/m-00002-of-00002.gguf"], None, "Q2_K/m-00001-of-00002.gguf"),
        ([f"Q8_0/m-Q8_0-0000{i}-of-00002.gguf" for i in (2, 1)], "Q8_0", "Q8_0/m-Q8_0-00001-of-00002.gguf"),
    ],
)
def test_choice_by_names(names: list[str], variant: str | None, chosen: str | None) -> None:
    assert choose_files("here", names, variant).gguf == chosen


@pytest.mark.parametrize(
    ("names", "variant", "said"),
    [
        (SEVERAL, "Q4_K", r"no 'Q4_K': choose by .*:IQ4_XS, .*:Q8_0"),
        (["a-Q8_0.gguf", "b-Q8_0.gguf"], "Q8_0", r"2 'Q8_0'"),
        (["a-Q8_0.gguf", "b-Q6_K.gguf"], None, r"2 GGUF models: choose by :Q8_0, :Q6_K"),
        (["model.safetensors"], "Q8_0", r"no GGUF file"),
        (["pytorch_model.bin", "config.json"], None, r"pickled.*safetensors or a GGUF"),
        (["model.onnx"], None, r"ONNX"),
    ],
)
def test_what_cannot_be_chosen_says_what_is_there(names: list[str], variant: str | None, said: str) -> None:
    with pytest.raises(ModelNotFound, match=said):
        choose_files("here", names, variant)


def test_files_in_a_directory(tmp_path: Path) -> None:
    for name in ("m-Q8_0.gguf", "m-Q4_0.gguf"):
        (tmp_path / name).write_bytes(b"GGUF")
    assert locate(f"{tmp_path}:Q4_0") == tmp_path / "m-Q4_0.gguf"
    assert locate(tmp_path / "m-Q8_0.gguf") == tmp_path / "m-Q8_0.gguf"
    blob = tmp_path / "sha256-0123"
    blob.write_bytes(b"GGUF....")
    assert locate(blob) == blob  # as another program keeps its files
    (tmp_path / "notes.txt").write_text("no model")
    with pytest.raises(ModelNotFound, match=r"is a file: give a GGUF file"):
        locate(tmp_path / "notes.txt")
    with pytest.raises(ModelNotFound, match="choose by :Q4_0, :Q8_0"):
        locate(tmp_path)


# --- the hub --------------------------------------------------------------------------------------------------------


class Hub:
    """Repositories in a folder, in the places of the client's three calls; notes what was fetched."""

    def __init__(self, root: Path):
        self.root, self.fetched, self.reachable = root, [], True
        self.gguf: dict[str, Any] | None = None

    def model_info(self, repo: str, files_metadata: bool = False) -> Any:
        if not self.reachable:
            raise ConnectionError("no network")
        if not (self.root / repo).is_dir():
            raise OSError("404")
        files = [path for path in (self.root / repo).rglob("*") if path.is_file()]
        of = [SimpleNamespace(rfilename=str(p.relative_to(self.root / repo)), size=p.stat().st_size) for p in files]
        return SimpleNamespace(siblings=of, gguf=self.gguf)

    def snapshot_download(self, repo: str, allow_patterns: Any = None, local_files_only: bool = False) -> str:
        if local_files_only and not (self.root / repo).is_dir():
            raise LocalEntryNotFoundError("not in the cache")
        self.fetched.append(allow_patterns)
        return str(self.root / repo)

    def hf_hub_download(self, repo: str, name: str) -> str:
        return str(self.root / repo / name)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    hub = Hub(tmp_path)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda _, *a, **k: hub.model_info(*a, **k))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub.snapshot_download)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hub.hf_hub_download)
    return hub


def test_a_gguf_file_of_the_hub_is_fetched_alone_and_answers(hub: Hub) -> None:
    own = dg.load("nano")
    folder = hub.root / "them" / "nano-GGUF"
    folder.mkdir(parents=True)
    for kind in ("Q8_0", "F32"):
        write_gguf(own.network, own.tokenizer, folder / f"nano-{kind}.gguf", kind, own.generation)
    (folder / "config.json").write_text("{}")  # such repositories often have one of somebody's
    model = dg.load("them/nano-GGUF:F32")
    assert hub.fetched == [["nano-F32.gguf"]]
    prompt = "Tell me the color of an emerald."
    assert model.generate(prompt, seed=7).text == own.generate(prompt, seed=7).text
    hub.reachable = False
    assert locate("them/nano-GGUF:F32") == folder / "nano-F32.gguf"
    with pytest.raises(ModelNotFound, match=r"cannot download them/absent .*no network"):
        locate("them/absent")


def test_safetensors_of_the_hub(hub: Hub) -> None:
    shutil.copytree(ASSETS / "nano", hub.root / "them" / "nano")
    assert locate("them/nano") == hub.root / "them" / "nano"
    assert "*.safetensors" in hub.fetched[0] and not any("gguf" in pattern for pattern in hub.fetched[0])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, r"them/it: .*bitsandbytes.*bfloat16"),
        ({"quantization_config": {"quant_method": "hqq"}}, r"them/it: .*hqq.*GGUF"),
        ({"model_type": "llama"}, r"them/it: .*'llama', expected 'diffusion_gemma'"),
    ],
)
def test_what_is_not_read_is_named_before_it_is_fetched(hub: Hub, change: dict, said: str) -> None:
    folder = hub.root / "them" / "it"
    shutil.copytree(ASSETS / "nano", folder)
    raw = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(raw | change))
    with pytest.raises(CheckpointError, match=said):
        locate("them/it")
    assert hub.fetched == []


def test_another_architecture_is_named_before_it_is_fetched(hub: Hub) -> None:
    (hub.root / "them" / "it").mkdir(parents=True)
    (hub.root / "them" / "it" / "a-Q4_K_M.gguf").write_bytes(b"GGUF")
    hub.gguf = {"architecture": "llama"}
    with pytest.raises(CheckpointError, match="architecture 'llama'"):
        locate("them/it")
    assert hub.fetched == []


@pytest.mark.parametrize(
    ("size", "packed", "fast", "chosen"),
    [
        (10**9, False, True, torch.float32),  # half a billion parameters
        (3 * 10**9, False, False, None),
        (10**8, True, True, torch.float32),
        (10**9, True, True, None),  # two billion parameters in 4 bits: attention takes a quarter of the time
        (10**9, True, False, torch.float32),
    ],
)
def test_a_small_model_computes_in_float32_on_a_cpu(monkeypatch, tmp_path, size, packed, fast, chosen):
    monkeypatch.setattr(places, "weight_bytes", lambda path: size)
    monkeypatch.setattr(places, "multiplies_bfloat16", lambda: fast)
    assert choose_dtype("auto", tmp_path, torch.device("cpu"), packed) == chosen
    assert choose_dtype("auto", tmp_path, torch.device("cuda"), packed) is None
