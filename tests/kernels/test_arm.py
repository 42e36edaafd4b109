"""The kernels for ARM's processors, compiled for them and run on emulated ones: the bits of the plain code here."""

from __future__ import annotations

import platform
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from packed_layouts import LAYOUTS
from torch import Tensor

from diffusiongemma.kernels import build, native
from diffusiongemma.kernels.native import Weight, kernels, read_in_place
from diffusiongemma.model.cache import in_eight_bits
from diffusiongemma.weights.packed import Blocks, Groups, Packed, int4, int8
from diffusiongemma.weights.packed_kernels import Experts, Product, _described, _parts

COMPILER, EMULATOR = shutil.which("aarch64-linux-gnu-g++"), shutil.which("qemu-aarch64")
# Processors without products of four bytes, and with them: what one does not have ends the program.
PROCESSORS = {"plain": "cortex-a72", "neon": "cortex-a72", "dotprod": "neoverse-n1"}
emulated = pytest.mark.skipif(not (COMPILER and EMULATOR), reason="needs aarch64-linux-gnu-g++ and qemu-aarch64")
PRODUCT, EXPERTS, MEAN, READ, ATTEND = range(5)


# --- calls, as `packed_program.cpp` reads them ------------------------------------------------------------------------


def numbers(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}q", *values)


def array(tensor: Tensor | None) -> bytes:
    raw = b"" if tensor is None else tensor.contiguous().view(torch.uint8).numpy().tobytes()
    return numbers(len(raw)) + raw


def weights(packed: Packed) -> bytes:
    written = b""
    for part, w in zip(_parts(packed), _described(packed), strict=True):
        tensors = (part.raw, None, None) if isinstance(part, Blocks) else (part.codes, part.scales, part.offsets)
        fields = [getattr(w, name) for name, _ in Weight._fields_[:7]]
        written += numbers(*fields) + array(torch.tensor([w.factor])) + b"".join(map(array, tensors))
    return written


def product_call(packed: Packed, x: Tensor, fine: bool = False) -> bytes:
    sizes = (len(_described(packed)), len(x), fine, packed.shape[0])
    return numbers(PRODUCT, *sizes) + weights(packed) + array(x)


class Emulated:
    """The kernels of one set of instructions -> what a list of calls comes to, float32, one behind the other."""

    def __init__(self, name: str, directory: Path):
        assert COMPILER is not None and EMULATOR is not None
        kernels_object, program = directory / f"{name}.o", directory / name
        compiled = [COMPILER, *build.flags_of(name), "-fopenmp", "-w"]
        here = Path(__file__).with_name("packed_program.cpp")
        includes, link = ["-I", str(build.SOURCE.parent)], [str(kernels_object), "-static", "-o", str(program)]
        subprocess.run([*compiled, "-c", str(build.SOURCE), "-o", str(kernels_object)], check=True)
        subprocess.run([*compiled, *includes, str(here), *link], check=True)
        self.command = [EMULATOR, "-cpu", PROCESSORS[name], "-E", "OMP_NUM_THREADS=2", str(program)]

    def __call__(self, *calls: bytes) -> Tensor:
        done = subprocess.run(self.command, input=b"".join(calls) + numbers(-1), capture_output=True, timeout=300)
        assert done.returncode == 0, (done.returncode, done.stderr)
        return torch.from_numpy(np.frombuffer(done.stdout, np.float32).copy())


@pytest.fixture(scope="module", params=[*build.ARM, "plain"])
def arm(request, tmp_path_factory):
    return Emulated(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture
def plain(monkeypatch):
    """Products here use no instructions in particular."""
    monkeypatch.setenv(native.VARIABLE, "plain")
    kernels.cache_clear()
    if kernels()[1] != "plain":
        pytest.skip("needs the compiled kernels")
    yield
    monkeypatch.undo()
    kernels.cache_clear()


# --- what they come to ------------------------------------------------------------------------------------------------


@emulated
@pytest.mark.parametrize("layout", LAYOUTS)
def test_products_have_the_bits_that_they_have_here(arm, plain, layout):
    torch.manual_seed(7)
    calls, expected = [], []
    for width in (256, 1280) if layout.endswith("_K") else (64, 704, 1344):
        weight, x = LAYOUTS[layout](torch.randn(43, width)), torch.randn(23, width)
        for rows, fine in ((1, False), (2, False), (23, False), (3, True)):
            calls.append(product_call(weight, x[:rows], fine))
            expected.append(Product(weight, fine)(x[:rows]).flatten())
        full = x @ weight.unpack().T
        assert (expected[-2].view(23, -1) - full).norm() < 0.012 * full.norm()
    assert torch.equal(arm(*calls), torch.cat(expected))


@emulated
@pytest.mark.parametrize("layout", ["int4, groups of 16", "int8, a scale a row", "NVFP4"])
def test_rows_may_end_within_a_word_of_instructions(arm, plain, layout):
    torch.manual_seed(4)
    made = [(LAYOUTS[layout](torch.randn(21, width)), torch.randn(9, width)) for width in (16, 48, 176, 1072)]
    found = arm(*(product_call(weight, x) for weight, x in made))
    assert torch.equal(found, torch.cat([Product(weight)(x).flatten() for weight, x in made]))


@emulated
def test_codes_and_activations_as_large_as_can_be_do_not_overflow(arm):
    """Sums are whole numbers of 16 bits for a while."""
    x = torch.full((2, 256), -127.0)
    blocks = {
        "Q6_K": (210, 0, 192),
        "Q5_0": (22, 2, 22),
        "Q5_K": (176, 16, 176),
        "Q8_0": (34, 2, 34),
    }  # bytes, and where the codes are
    calls, expected = [], []
    for layout in ("MLX, 8 bits", "NVFP4", "MLX, 4 bits", *blocks):
        size, first, last = blocks.get(layout, (0, 0, 0))
        for byte in (0, 127, 128, 255):
            weight = LAYOUTS[layout](torch.randn(16, 256))
            codes = weight.codes if isinstance(weight, Groups) else weight.raw.view(16, -1, size)[..., first:last]
            codes.fill_(byte)
            calls.append(product_call(weight, x))
            expected.append((x @ weight.unpack().T).flatten())
    found = arm(*calls).split(32)
    assert all((a - b).abs().max() < 1e-5 * b.abs().max() + 1e-3 for a, b in zip(found, expected, strict=True))


@emulated
def test_experts_have_the_bits_that_they_have_here(arm, plain):
    torch.manual_seed(8)
    gate_up, down = int4(torch.randn(6, 128, 96)), int8(torch.randn(6, 96, 64))
    x, shares = torch.randn(40, 96), torch.rand(40, 2)
    chosen = torch.stack([torch.randperm(6)[:2] for _ in x])
    call = numbers(EXPERTS, 6, 40, 2) + b"".join(weights(each[e]) for each in (gate_up, down) for e in range(6))
    found = arm(call + array(x) + array(chosen) + array(shares))
    assert torch.equal(found.view(40, 96), Experts(gate_up, down)(x, shares, chosen))


@emulated
@pytest.mark.parametrize("layout", ["int4, groups of 32", "int8, a scale a row", "MLX, 8 bits", "Q4_K", "Q5_0", "Q5_K"])
def test_a_mean_has_the_bits_that_it_has_here(arm, plain, layout):
    torch.manual_seed(3)
    weight = LAYOUTS[layout](torch.randn(700, 256))
    shares = (torch.randn(9, 700) * torch.tensor([0.1, 1, 2, 4, 8, 8, 16, 16, 30])[:, None]).softmax(-1)
    found = arm(numbers(MEAN, 9) + weights(weight) + array(shares))
    assert torch.equal(found.view(9, 256), Product(weight).mean(shares))


@emulated
def test_logits_are_read_as_they_are_here(arm, plain):
    """Logarithms are those of the system's library."""
    torch.manual_seed(5)
    logits, temperature, uniforms = torch.randn(12, 4099) * 6, torch.rand(12) + 0.3, torch.rand(12)
    greedy = torch.arange(12) % 3 == 2
    inputs = (logits, temperature, uniforms, greedy.to(torch.uint8))
    found = arm(numbers(READ, *logits.shape) + b"".join(map(array, inputs)))
    probabilities = logits.clone()
    expected = torch.stack([x.float() for x in read_in_place(probabilities, temperature, uniforms, greedy)], 1)
    torch.testing.assert_close(found[: 12 * 5].view(12, 5), expected, rtol=1e-6, atol=1e-6)
    assert torch.equal(found[12 * 5 :].view_as(logits), probabilities)


@emulated
@pytest.mark.parametrize("kind", range(3))
def test_a_token_attends_as_it_does_here(arm, plain, kind):
    torch.manual_seed(6)
    q, both = torch.randn(12, 1, 64), torch.randn(2, 2, 301, 64)
    held = (both, both.bfloat16(), in_eight_bits(both))[kind]
    found = arm(numbers(ATTEND, kind, 2, 301, 6, 64) + array(q) + array(held[0]) + array(held[1]))
    assert torch.equal(found.view(12, 64), native.attend_one(q, held[0], held[1])[0])


@pytest.mark.skipif(COMPILER is None, reason="needs aarch64-linux-gnu-g++")
def test_each_set_compiles_into_a_library(monkeypatch, tmp_path):
    """As the package's build does it on such a machine."""
    monkeypatch.setattr(build, "LIBRARIES", tmp_path)
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    monkeypatch.setenv("CXX", COMPILER)
    assert build.build() == {}
    assert {path.name for path in tmp_path.iterdir()} == {
        *(f"packed-{name}.so" for name in (*build.ARM, "plain")), "automata.so"
    }  # fmt: skip
    assert all(path.read_bytes()[18] == 183 for path in tmp_path.iterdir())  # EM_AARCH64


@pytest.mark.parametrize(
    "machine, said, chosen",
    [
        ("aarch64", "Features\t: fp asimd evtstrm aes crc32 asimddp sve\n", ["dotprod", "neon", "plain"]),
        ("aarch64", "Features\t: fp asimd evtstrm aes crc32\n", ["neon", "plain"]),
        ("x86_64", "flags\t\t: fma avx2 f16c\n", ["avx2", "plain"]),
        ("riscv64", "Features\t: asimd\n", ["plain"]),
    ],
)
def test_the_best_that_the_processor_says_it_has_is_tried_first(monkeypatch, machine, said, chosen):
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(Path, "read_text", lambda self: "processor\t: 0\n" + said)
    monkeypatch.delenv(native.VARIABLE, raising=False)
    tried: list[str] = []
    monkeypatch.setattr(native, "_load", lambda name: tried.append(name) or "not now")
    assert kernels.__wrapped__()[0] is None and tried == chosen


def test_macs_have_products_of_four_bytes(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    assert native.NEEDS["dotprod"] <= native._processor() and not native.NEEDS["avx2"] <= native._processor()
