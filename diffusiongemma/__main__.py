from __future__ import annotations

from diffusiongemma.cli import main

main()
