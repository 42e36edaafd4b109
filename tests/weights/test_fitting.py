"""Whether a model fits, told before it is loaded."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from test_locate import Hub, hub  # noqa: F401  # a fixture

from diffusiongemma.cli import doctor, main
from diffusiongemma.config import ModelConfig
from diffusiongemma.kernels.native import kernels
from diffusiongemma.model.model import Model
from diffusiongemma.weights import fitting
from diffusiongemma.weights.checkpoint import VISION, Shards, load_model, open_checkpoint
from diffusiongemma.weights.fitting import CONTEXT, fit
from diffusiongemma.weights.formats.gguf_writer import write_gguf
from diffusiongemma.weights.locate import ASSETS, load_tokenizer
from diffusiongemma.weights.quantize import quantize
from diffusiongemma.weights.schemes import KINDS, Scheme
from diffusiongemma.weights.sizes import cache_sizes, text_sizes, weight_sizes

NANO = ASSETS / "nano"
CONFIG = ModelConfig.from_file(NANO / "config.json")
CPU = torch.device("cpu")
EXPERTS = 2 * CONFIG.num_layers  # packed weights: gate and up together, and down
OTHERS = 4 + sum(7 if CONFIG.is_sliding(i) else 6 for i in range(CONFIG.num_layers))  # global layers have no value's


def stored_bytes(directory: Path) -> int:
    shards = Shards(directory)
    names = [name for name in shards.where if not name.startswith(VISION) and not name.endswith("weight_shape")]
    return sum(shards.tensor(name).nbytes for name in names)


@pytest.mark.parametrize("scheme", KINDS)
def test_sizes_from_the_configuration_are_those_of_the_files(tmp_path: Path, scheme: str) -> None:
    assert text_sizes(CONFIG, None).total == stored_bytes(NANO)
    quantize(NANO, tmp_path / "out", Scheme(scheme))
    assert text_sizes(CONFIG, Scheme(scheme)).total == stored_bytes(tmp_path / "out")


def test_caches_are_as_large_as_said() -> None:
    model = load_model(NANO, torch.float32)
    cache = model.encode(torch.ones(1, 1000, dtype=torch.long))
    held = sum(
        (layer.end - layer.start) * layer.keys.shape[0] * layer.keys.shape[2] * 8 for layer in cache.rows[0].layers
    )
    canvas = sum(2 * h * w for h, w in map(CONFIG.heads, range(CONFIG.num_layers))) * 4 * CONFIG.canvas_length
    said = sum(cache_sizes(CONFIG, 1000, size=4))
    assert said >= held + canvas and said <= 1.01 * (held + canvas)


def test_the_released_model_fits_in_the_schemes_it_is_said_to(monkeypatch: pytest.MonkeyPatch) -> None:
    config = ModelConfig()
    sizes = {name: text_sizes(config, Scheme(name)).total / 1e9 for name in KINDS}
    assert text_sizes(config, None).total / 1e9 == pytest.approx(50.5, abs=0.5)
    assert sizes["mixed"] < 16 and sizes["int4"] < sizes["mixed"] < sizes["int8"]
    for free, scheme in ((18, "mixed"), (30, "int8")):
        monkeypatch.setattr(fitting, "free_memory", lambda device, free=free: free * 10**9)
        assert f"scheme {scheme}" in fitting._fit(config, text_sizes(config, None), [CPU], True, 2).advice("X")
    monkeypatch.setattr(fitting, "free_memory", lambda device: 10**9)
    assert "larger machine" in fitting._fit(config, text_sizes(config, None), [CPU], True, 2).advice("X")


@pytest.mark.parametrize("fast", [False, True])
def test_caches_are_counted_in_what_the_processor_computes_in(monkeypatch: pytest.MonkeyPatch, fast: bool) -> None:
    monkeypatch.setattr(fitting, "multiplies_bfloat16", lambda: fast)
    config = ModelConfig()
    found = fitting._fit(config, text_sizes(config, None), [CPU], True, 2)
    assert found.need.caches == sum(cache_sizes(config, CONTEXT))
    assert found.schemes["int4"].caches == sum(cache_sizes(config, CONTEXT, 2 if fast else 4))


def test_doctor_says_before_loading(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(fitting, "free_memory", lambda device: 10**8)
    monkeypatch.setattr("diffusiongemma.api.load", lambda *a, **k: pytest.fail("it was loaded"))
    (check,) = doctor.trial("nano", "cpu")
    assert check.name == "memory for nano" and not check.ok
    assert f"caches for {CONTEXT:,} tokens" in check.found and "0.1 GB are free" in check.found


def test_doctor_tells_layouts(tmp_path: Path) -> None:
    quantize(NANO, tmp_path / "out", Scheme("mixed"))
    checks = {check.name: check for check in doctor.trial(str(tmp_path / "out"), "cpu")}
    assert checks["layouts"].found == f"{OTHERS} weights in int8, {EXPERTS} weights in int4"


def test_doctor_tells_what_is_slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quantize(NANO, tmp_path / "out", Scheme("fp8"))
    count = OTHERS + EXPERTS
    if kernels()[0] is not None:
        checks = {check.name: check for check in doctor.trial(str(tmp_path / "out"), "cpu")}
        assert checks["layouts"].ok
        assert checks["layouts"].found == f"{count} weights in fp8; multiplied from copies in 8 bits: {count} of fp8"
    monkeypatch.setattr("diffusiongemma.weights.packed_modules.COPIES", 0)  # as where memory is short
    checks = {check.name: check for check in doctor.trial(str(tmp_path / "out"), "cpu")}
    slow = f"unpacked for each product, which is slow: {count} in fp8"
    assert not checks["layouts"].ok and slow in checks["layouts"].advice
    monkeypatch.setattr("diffusiongemma.kernels.native.kernels", lambda: (None, "no C++ compiler was found"))
    (check,) = (check for check in doctor.machine() if check.name == "kernels")
    assert not check.ok and not check.needed and "kernels.build" in check.advice
    assert check.found == "no C++ compiler was found"


def test_serve_says_before_loading(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(fitting, "free_memory", lambda device: 10**8)
    monkeypatch.setattr("diffusiongemma.cli.running.open_model", lambda *a: (_ for _ in ()).throw(SystemExit(7)))
    with pytest.raises(SystemExit) as left:
        main(["serve", "--model", "nano"])
    said = capsys.readouterr().err
    assert left.value.code == 7 and "nano needs 0." in said and "it will be slow or fail; close other programs" in said


def test_models_of_the_hub_are_judged_by_their_listing(hub: Hub) -> None:  # noqa: F811
    shutil.copytree(NANO, hub.root / "them" / "nano")
    found = fit("them/nano", CPU)
    assert found.need.weights == (NANO / "model.safetensors").stat().st_size and set(found.schemes) == set(KINDS)
    folder = hub.root / "them" / "files"
    folder.mkdir()
    model = load_model(NANO, torch.float32)
    for kind in ("Q4_0", "Q8_0"):
        write_gguf(model, load_tokenizer(NANO), folder / f"n-{kind}.gguf", kind)
    assert fit("them/files:Q8_0", CPU).need.weights == (folder / "n-Q8_0.gguf").stat().st_size
    assert fit("them/files:Q4_0", CPU).schemes == {}
    assert hub.fetched == []


def test_the_shape_is_all_that_is_made_of_a_model() -> None:
    """Sizes come from tensors on no device."""
    with torch.device("meta"):
        model = Model(ModelConfig(), lambda _: torch.nn.Module())
    assert all(weight.is_meta for weight in model.state_dict().values())
    assert text_sizes(ModelConfig(), None).total == sum(w.numel() * 2 for w in model.state_dict().values())


def test_layers_are_counted_as_they_lie_in_the_files(tmp_path: Path) -> None:
    config = ModelConfig.from_file(NANO / "config.json")
    _, tensors = open_checkpoint(NANO)
    plain = weight_sizes(config, tensors)
    assert plain.layers == text_sizes(config, None).layers
    assert plain.total == sum(tensors.stored().values())
    quantize(NANO, tmp_path / "out", Scheme("int4"))
    packed = weight_sizes(config, open_checkpoint(tmp_path / "out")[1])
    shapes = len(config.layer_types) * 64  # of `weight_shape`, two numbers for each packed weight
    for said, stored in zip(text_sizes(config, Scheme("int4")).layers, packed.layers, strict=True):
        assert said <= stored <= said + 16 * shapes
    write_gguf(load_model(NANO, torch.float32), load_tokenizer(NANO), tmp_path / "n.gguf", "Q8_0")
    gguf = weight_sizes(config, open_checkpoint(tmp_path / "n.gguf")[1])
    assert all(0.5 < size / full < 0.7 for size, full in zip(gguf.layers, plain.layers, strict=True))


def two_gpus(monkeypatch: pytest.MonkeyPatch, *gigabytes: float) -> list[torch.device]:
    devices = [torch.device("cuda", i) for i in range(len(gigabytes))]
    free = {device: int(size * 1e9) for device, size in zip(devices, gigabytes, strict=True)}
    monkeypatch.setattr(fitting, "free_memory", lambda device: free[device])
    return devices


def test_each_device_must_hold_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    config = ModelConfig()
    sizes = text_sizes(config, None)
    for free, fits in (((40, 40), True), ((20, 40), True), ((10, 40), False), ((55, 8), True), ((55, 0.5), False)):
        found = fitting._fit(config, sizes, two_gpus(monkeypatch, *free), True, 2)
        assert found.fits == fits, (free, str(found))
        assert sum(part.needed for part in found.need.parts) == found.need.total
    assert "GB that are free on cuda:0" in str(found) and "GB of the 0.5 GB that are free on cuda:1" in str(found)
    # What does not fit as it is does so in fewer bits, device by device.
    assert "scheme int8" in fitting._fit(config, sizes, two_gpus(monkeypatch, 10, 40), True, 2).advice("X")


def test_a_device_that_is_named_twice_is_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "free_memory", lambda device: 10**9)
    found = fit("nano", CPU, CPU)
    assert [part.free for part in found.need.parts] == [5 * 10**8] * 2


def test_commands_count_each_device(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(fitting, "free_memory", lambda device: 10**8)
    (check,) = doctor.trial("nano", "auto", "cpu,cpu")
    assert not check.ok and check.found.count("GB that are free on cpu") == 2
    monkeypatch.setattr("diffusiongemma.cli.running.open_model", lambda *a: (_ for _ in ()).throw(SystemExit(7)))
    with pytest.raises(SystemExit):
        main(["serve", "--devices", "cpu,cpu"])
    assert capsys.readouterr().err.count("GB that are free on cpu") == 2
