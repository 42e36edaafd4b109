"""Fonts out of Debian's packages, fetched with apt's client; some are kept for measuring, whole families at a time."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from functools import cache, lru_cache
from pathlib import Path

from PIL import ImageFont

from diffusiongemma.tasks.example import Split, in_split

PRINTED = (
    "fonts-dejavu-core", "fonts-dejavu-extra", "fonts-liberation", "fonts-freefont-ttf", "fonts-lato",
    "fonts-cantarell", "fonts-crosextra-carlito", "fonts-crosextra-caladea", "fonts-courier-prime", "fonts-hack",
    "fonts-inconsolata", "fonts-clear-sans", "fonts-dosis", "fonts-cabin", "fonts-eurofurence", "fonts-firacode",
    "fonts-comic-neue", "fonts-averia-serif-gwf", "fonts-open-sans", "fonts-roboto-unhinted", "fonts-quicksand",
    "fonts-linuxlibertine", "fonts-arkpandora", "fonts-b612", "fonts-comfortaa", "fonts-croscore", "fonts-ebgaramond",
    "fonts-go", "fonts-inter", "fonts-jetbrains-mono", "fonts-karla", "fonts-junction", "fonts-jura", "fonts-manrope",
    "fonts-mononoki", "fonts-opendin", "fonts-opendyslexic", "fonts-osifont", "fonts-play", "fonts-quattrocento",
    "fonts-roboto-slab", "fonts-sil-andika", "fonts-sora", "fonts-adf-gillius", "fonts-adf-universalis",
    "fonts-beteckna", "fonts-gnutypewriter", "fonts-ocr-b", "fonts-paratype", "fonts-century-catalogue",
    "fonts-league-spartan", "fonts-tuffy", "fonts-vollkorn",
)  # fmt: skip
HANDWRITTEN = (
    "fonts-dkg-handwriting", "fonts-breip", "fonts-bwht", "fonts-femkeklaver", "fonts-humor-sans",
    "fonts-dancingscript", "fonts-isabella", "fonts-ecolier-court", "fonts-klee", "fonts-kristi", "fonts-kaushanscript",
    "fonts-rufscript", "fonts-dustin", "fonts-lobstertwo", "fonts-pecita", "fonts-tomsontalks", "fonts-staypuft",
    "fonts-summersby",
)  # fmt: skip
_NEEDED = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.,:"


def fetch(folder: Path, packages: Iterable[str] = PRINTED + HANDWRITTEN) -> list[Path]:
    """The font files of these packages, unpacked under `folder`; packages that are not to be had are left out."""
    for package in packages:
        home = folder / package
        if home.exists():
            continue
        home.mkdir(parents=True)
        subprocess.run(["apt-get", "download", "-q", package], cwd=home, check=False, capture_output=True)
        for archive in home.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", archive.name, "."], cwd=home, check=True)
    return sorted(path for suffix in ("ttf", "otf") for path in folder.rglob(f"*.{suffix}"))


def of_split(paths: Iterable[Path], split: Split) -> list[Path]:
    """Fonts of families of one half, see `family`; usable ones only."""
    return [path for path in paths if in_split(f"font {family(path)}", split) and usable(path)]


def family(path: Path) -> str:
    """The package that a font is from, else its folder."""
    return next((part for part in path.parts if part.startswith("fonts-")), path.parent.name)


@cache
def usable(path: Path) -> bool:
    """Whether a font has shapes of its own for all letters and digits."""
    try:
        font = ImageFont.truetype(str(path), 24)
        blank = font.getmask("\uffff").getbbox()
        shapes = [bytes(font.getmask(letter)) for letter in _NEEDED]
    except (OSError, ValueError):
        return False
    missing = bytes(font.getmask("\uffff")) if blank else None
    return missing not in shapes and len({*shapes}) > 0.9 * len(shapes) and all(map(any, shapes))


@lru_cache(2000)
def sized(path: Path, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(path), size)
