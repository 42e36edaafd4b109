"""Fine-tune on your own conversations and load the result. A real run takes more lines and more steps."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import diffusiongemma as dg

folder = Path(tempfile.mkdtemp())
lines = [{"prompt": f"Say the word {word}.", "response": word} for word in ("apple", "pear", "plum", "cherry")]
(folder / "mine.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

train = [sys.executable, "-m", "diffusiongemma", "train", "sft", "--data", str(folder / "mine.jsonl")]
subprocess.run(
    [*train, "--lora", "4", "--steps", "3", "--set", "data.batch=2", "--out", str(folder / "adapter")], check=True
)

model = dg.load(folder / "adapter")  # the adapter names its base model
print(model.generate("Say the word pear.", seed=7).text)
