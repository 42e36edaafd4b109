"""The package's build compiles the kernels where there is a compiler; without one the wheel is pure Python."""

from __future__ import annotations

import importlib.util
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

HERE = Path(__file__).parent


class KernelsHook(BuildHookInterface):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        spec = importlib.util.spec_from_file_location("build", HERE / "diffusiongemma" / "kernels" / "build.py")
        assert spec is not None and spec.loader is not None
        kernels = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(kernels)
        for name, error in kernels.build().items():
            self.app.display_warning(f"kernels for packed weights, {name}: {error}")
        libraries = sorted(kernels.LIBRARIES.glob("*.so"))
        if version == "editable" or not libraries:
            return
        for path in libraries:
            build_data["force_include"][str(path)] = str(path.relative_to(HERE))
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"
