"""Every program of examples/ runs as it stands and does what it says."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
PRINTS = {
    "chat.py": ["nano:  green", "of them from the cache"],
    "stream_canvas.py": ["step  1 ", "sends an invitation. Jack watches the boats.", "tokens per forward pass"],
    "json_from_schema.py": ["William Clark lives at number 299"],
    "infill.py": ["After lunch, Anna painted a picture in the garden.", "('painted',)"],
    "edit.py": ["Anna sends flowers. Anna watches", "delete: 'Jack'", "insert: 'Anna'"],
    "own_sampler.py": ["green in ", " steps"],
    "finetune.py": [],  # what three steps on four lines teach is left open: a text comes back
    "openai_client.py": ["reply:  green", "stream: green"],
}


def test_every_example_is_here_and_in_the_table():
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(PRINTS)
    table = (EXAMPLES / "README.md").read_text()
    assert [name for name in PRINTS if f"| [{name}]({name}) |" not in table] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", PRINTS)
def test_example(name, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("sys.argv", [name])
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    printed = capsys.readouterr().out
    assert printed.strip()
    assert [text for text in PRINTS[name] if text not in printed] == [], printed
