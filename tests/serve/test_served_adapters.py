"""Adapters on a served model: chosen by the model's name, together in one batch, loaded and unloaded meanwhile."""

from __future__ import annotations

import gc
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from serving import running, user

import diffusiongemma as dg
from diffusiongemma.engine.engine import Engine
from diffusiongemma.errors import CheckpointError
from diffusiongemma.serve.adapters import adapted
from diffusiongemma.serve.transport.metrics import resident_bytes
from diffusiongemma.weights.adapter import CONFIG, ORDER_KEY, WEIGHTS, load_adapter, save_adapter
from diffusiongemma.weights.checkpoint import load_model
from diffusiongemma.weights.lora import LoraConfig, adapters, add_lora

NAMES = ("one", "two", "three")


@pytest.fixture(scope="module")
def folders(tiny_directory, tmp_path_factory):
    return three_adapters(tiny_directory, tmp_path_factory.mktemp("adapters"))


def three_adapters(directory, folder, strength=0.3):
    """Those of a model, which change answers visibly, by name."""
    for seed, name in enumerate(NAMES):
        model = load_model(directory)
        add_lora(model, LoraConfig(rank=3, experts=True), seed)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for lora in adapters(model).values():
                lora.B.normal_(0, strength, generator=generator)
        save_adapter(model, folder / name, "tiny")
    return {name: folder / name for name in NAMES}


def body(name, seed=1):
    return {"model": name, "messages": user("hello"), "seed": seed, "max_tokens": 20}


def text(server, asked):
    with server.http as http:
        reply = http.post("/v1/chat/completions", json=asked)
    assert reply.status_code == 200, reply.text
    return reply.json()["choices"][0]["message"]["content"]


def test_adapters_in_one_batch_give_what_each_gives_alone(tiny_directory, folders):
    with running(dg.load(tiny_directory), adapters=dict(folders), max_requests=8) as server:
        asked = [body(name, seed) for seed in (1, 2) for name in ("tiny", *NAMES)]
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(lambda one: text(server, one), asked))
        client = server.openai()
        assert [model.id for model in client.models.list()] == ["tiny", *NAMES]
        fill = client.completions.create(model="two", prompt="The cat", suffix=" on.", seed=2, max_tokens=4)
    for name, *mine in zip(("tiny", *NAMES), together[:4], together[4:], strict=True):
        alone = dg.load(tiny_directory, adapter=folders.get(name))
        assert mine == [alone.generate("hello", seed=seed, max_new_tokens=20).text for seed in (1, 2)]
        if name == "two":
            assert fill.choices[0].text == alone.infill("The cat", " on.", length=(1, 4), seed=2).fills[0]
    assert len(set(together)) == len(together)


@pytest.mark.parametrize("mode", ["diffusion", "ar"])
def test_adapters_of_nano_in_one_batch_are_each_as_alone_bit_for_bit(tmp_path, mode):
    nano = dg.load("nano")
    folders = three_adapters(nano.directory, tmp_path, strength=0.02)
    models = {name: adapted(nano.network, folder) for name, folder in folders.items()}

    def results(names):
        engine = Engine(nano.network, nano.tokenizer, len(names))
        engine.adapted = models
        asked = [
            nano.request("Tell me the color of an emerald.", id=i, seed=3, mode=mode, max_new_tokens=12)
            for i in range(len(names))
        ]
        return engine.results([replace(one, adapter=name) for one, name in zip(asked, names, strict=True)])

    together = results(["", *NAMES])
    for name, result in zip(["", *NAMES], together, strict=True):
        (alone,) = results([name])
        assert (alone.tokens, alone.logprobs, alone.entropies) == (result.tokens, result.logprobs, result.entropies)
    assert len({result.logprobs for result in together}) == 4


def test_adapters_come_and_go(tiny_directory, folders):
    with running(dg.load(tiny_directory), lora_loading=True) as server, server.http as http:
        load = {"lora_name": "mine", "lora_path": str(folders["one"])}
        assert http.post("/v1/chat/completions", json=body("mine")).status_code == 404
        before_budget = server.worker.engine.budget
        assert http.post("/v1/load_lora_adapter", json=load).status_code == 200
        assert server.worker.engine.budget < before_budget, "its weights are counted"
        plain, mine = text(server, body("tiny")), text(server, body("mine"))
        assert plain != mine
        again = http.post("/v1/load_lora_adapter", json=load)
        assert again.status_code == 400 and again.json()["error"]["param"] == "lora_name"
        nowhere = http.post("/v1/load_lora_adapter", json=load | {"lora_name": "x", "lora_path": "/no/where"})
        assert nowhere.status_code == 400 and nowhere.json()["error"]["param"] == "lora_path"

        def turn():
            assert http.post("/v1/unload_lora_adapter", json={"lora_name": "mine"}).status_code == 200
            assert http.post("/v1/load_lora_adapter", json=load).status_code == 200

        for _ in range(10):
            turn()
        gc.collect()
        before = resident_bytes()
        for _ in range(100):
            turn()
        gc.collect()
        assert resident_bytes() - before < 20e6
        assert text(server, body("mine")) == mine and text(server, body("tiny")) == plain
        http.post("/v1/unload_lora_adapter", json={"lora_name": "mine"})
        assert server.worker.engine.budget == before_budget
        assert http.post("/v1/chat/completions", json=body("mine")).status_code == 404
        assert http.post("/v1/unload_lora_adapter", json={"lora_name": "mine"}).status_code == 404


def test_who_may_load_adapters(tiny_directory, folders):
    """Nobody on a server without keys, unless it was started for it; with keys, whoever has one."""
    model, load = dg.load(tiny_directory), {"lora_name": "mine", "lora_path": str(folders["one"])}
    with running(model) as server, server.http as http:
        for path in ("/v1/load_lora_adapter", "/v1/unload_lora_adapter"):
            refused = http.post(path, json=load if "/load" in path else {"lora_name": "mine"})
            assert refused.status_code == 403 and "--lora-loading" in refused.json()["error"]["message"]
    with running(model, api_keys=("a-key-of-mine",)) as server, server.http as http:
        assert http.post("/v1/load_lora_adapter", json=load).status_code == 401
        mine = {"authorization": "Bearer a-key-of-mine"}
        assert http.post("/v1/load_lora_adapter", json=load, headers=mine).status_code == 200


def test_adapters_whose_columns_are_in_another_order_are_not_loaded_scrambled(tiny_directory, folders, tmp_path):
    shutil.copytree(folders["one"], tmp_path / "theirs")
    file, config = tmp_path / "theirs" / WEIGHTS, tmp_path / "theirs" / CONFIG
    tensors, settings = load_file(file), json.loads(config.read_text())
    model = load_model(tiny_directory)
    experts = model.config.num_experts
    for name, tensor in tensors.items():
        if ".experts" in name and "lora_B" in name:
            tensors[name] = tensor.view(len(tensor), 3, experts).permute(0, 2, 1).reshape(tensor.shape).contiguous()
    save_file(tensors, file, metadata={"format": "pt"})
    settings["target_parameters"] = ["experts.gate_up_proj", "experts.down_proj"]

    def loaded(**more):
        config.write_text(json.dumps(settings | more))
        model = load_model(tiny_directory)
        load_adapter(model, tmp_path / "theirs")
        return {name: lora.B for name, lora in adapters(model).items()}

    with pytest.raises(CheckpointError, match=ORDER_KEY):
        loaded()
    plain = load_model(tiny_directory)
    load_adapter(plain, folders["one"])
    for marks in ({ORDER_KEY: "unsloth"}, {"auto_mapping": {"unsloth_fixed": True}}):
        for name, B in loaded(**marks).items():
            assert torch.equal(B, adapters(plain)[name].B), name
