"""Small checkpoints that several test files share."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from diffusiongemma.host import round_alike

CANVAS = 16
# What of a reason to skip says how to do without skipping.
REMEDIES = {
    "playwright": "pip install -e '.[dev]'",
    "chromium": "`make browser`, or chromium of the distribution (apt-get install chromium)",
    "TypeScript": "`npm install --no-save typescript@5` in the repository",
    "GPU": "a machine with an NVIDIA GPU",
}
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # before anybody imports triton
round_alike()  # before the first product, as `load` does: some tests make their models themselves
TESTS = Path(__file__).parent
SLOW = (  # files whose tests take long together; single ones elsewhere are marked where they stand
    "assets/", "bench/", "gpu/", "cluster/test_ray", "recipes/", "train/", "control/test_chain",
    "control/test_constrained_soak", "control/test_json_schema", "engine/test_edit",
    "engine/test_generate_parity", "engine/test_infill",
    "engine/test_verify", "parallel/test_two_processes", "serve/test_batch", "serve/test_clients",
    "serve/test_compiling", "serve/test_serve_limits", "serve/test_serve_schema", "serve/test_served_adapters",
    "test_docs", "test_examples", "test_wrong_types", "weights/test_checkpoint", "weights/test_lora",
)  # fmt: skip
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
PREPROCESSOR = {
    "image_processor_type": "Gemma4ImageProcessor",
    "patch_size": 16,
    "pooling_kernel_size": 3,
    "max_soft_tokens": 70,
}


@pytest.fixture(scope="session")
def tiny_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model of canvas 16 with vision and nano's tokenizer; steps 8, stop tokens <eos> and <turn|>."""
    from reference import build, ours

    from diffusiongemma.weights.locate import ASSETS

    directory = tmp_path_factory.mktemp("models") / "tiny"
    reference = build(seed=3, canvas_length=CANVAS, image_token_id=17, vocab_size=4096)
    # At full strength a random self-conditioner is chaotic: thread counts alone would change the text.
    reference.model.decoder.self_conditioning.down_proj.weight.data.mul_(0.1)
    ours(reference, directory)
    for name in TOKENIZER_FILES:
        shutil.copy(ASSETS / "nano" / name, directory)
    (directory / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
    generation = {"max_new_tokens": 2 * CANVAS, "max_denoising_steps": 8, "eos_token_id": [1, 5]}
    (directory / "generation_config.json").write_text(json.dumps(generation))
    return directory


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def interrupts_arrive() -> Iterator[None]:
    """Where whoever starts the tests ignores SIGINT (`nohup make test &`), every child would inherit that."""
    before = signal.getsignal(signal.SIGINT)
    if before == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def pytest_collection_modifyitems(items: list[Any]) -> None:
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.browser)
        if str(item.path.relative_to(TESTS)).startswith(SLOW):
            item.add_marker(pytest.mark.slow)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """What was skipped and how to get it, one line for each reason."""
    reports = terminalreporter.stats.get("skipped", [])
    for line in skips(_reason(report) for report in reports):
        terminalreporter.write_line(line, yellow=True)


def skips(reasons: Any) -> list[str]:
    lines = []
    for reason, count in sorted(Counter(reasons).items()):
        remedy = next((remedy for word, remedy in REMEDIES.items() if word in reason), None)
        lines.append(f"skipped {count}: {reason}" + (f"; to run them: {remedy}" if remedy else ""))
    return lines


def _reason(report: Any) -> str:
    where_and_why = report.longrepr
    why = where_and_why[2] if isinstance(where_and_why, tuple) else str(where_and_why)
    return re.sub(r"^Skipped: ", "", why)
