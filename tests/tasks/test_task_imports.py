"""What tasks and evaluation may know of."""

from __future__ import annotations

import subprocess
import sys

import pytest

import diffusiongemma

ALL_OF = """
import importlib, pkgutil, sys
import diffusiongemma.{package} as package
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    importlib.import_module(module.name)
print("\\n".join(sys.modules))
"""


@pytest.mark.parametrize("absent", ["torch", "transformers"])
def test_questions_and_scores_need_no_tensors(absent):
    assert absent not in modules_of("tasks")


@pytest.mark.parametrize("package", ["tasks", "evaluation"])
def test_neither_knows_of_training(package):
    modules = modules_of(package)
    assert f"diffusiongemma.{package}" in modules
    assert not [name for name in modules if name.startswith("diffusiongemma.train")]


def modules_of(package: str) -> list[str]:
    """All that is imported with every module of `diffusiongemma.PACKAGE`, in a process of its own."""
    (root,) = diffusiongemma.__path__
    done = subprocess.run(
        [sys.executable, "-c", ALL_OF.format(package=package)], capture_output=True, text=True, cwd=f"{root}/.."
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()
