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
# For training only, so that what is measured stays what it was; none is a version of a family that is measured.
MORE = (
    "fonts-3270", "fonts-adf-accanthis", "fonts-adf-baskervald", "fonts-adf-berenis", "fonts-adf-ikarius",
    "fonts-adf-irianis", "fonts-adf-libris", "fonts-adf-mekanus", "fonts-adf-oldania", "fonts-adf-romande",
    "fonts-adf-switzera", "fonts-adf-tribun", "fonts-adf-verana", "fonts-agave", "fonts-allerta", "fonts-anonymous-pro",
    "fonts-apropal", "fonts-arapey", "fonts-averia-gwf", "fonts-averia-sans-gwf", "fonts-bajaderka", "fonts-bebas-neue",
    "fonts-cabinsketch", "fonts-cardo", "fonts-cherrybomb", "fonts-compagnon", "fonts-dotgothic16", "fonts-dseg",
    "fonts-elstob", "fonts-engadget", "fonts-essays1743", "fonts-f500", "fonts-fantasma", "fonts-fantasque-sans",
    "fonts-fanwood", "fonts-georgewilliams", "fonts-gfs-artemisia", "fonts-gfs-didot", "fonts-gfs-neohellenic",
    "fonts-glasstty", "fonts-goudybookletter", "fonts-havana", "fonts-hermit", "fonts-kiloji", "fonts-le-murmure",
    "fonts-league-mono", "fonts-leckerli-one", "fonts-lemonada", "fonts-levien-museum", "fonts-lindenhill",
    "fonts-lmodern", "fonts-lobster", "fonts-millimetre", "fonts-monofur", "fonts-nanum-extra", "fonts-national-park",
    "fonts-ocr-a", "fonts-okolaks", "fonts-oldstandard", "fonts-oxygen", "fonts-prociono", "fonts-radisnoir",
    "fonts-rampart", "fonts-reggae", "fonts-roadgeek", "fonts-rocknroll", "fonts-routed-gothic",
    "fonts-sawarabi-gothic", "fonts-seto", "fonts-sil-charis", "fonts-sil-gentium-basic", "fonts-sjfonts",
    "fonts-smc-chilanka", "fonts-smiley-sans", "fonts-stick", "fonts-stix", "fonts-texgyre", "fonts-tiresias",
    "fonts-tlwg-purisa-ttf", "fonts-tlwg-sawasdee-ttf", "fonts-ubuntu-title", "fonts-urw-base35",
    "fonts-yanone-kaffeesatz", "fonts-yusei-magic",
)  # fmt: skip
_NEEDED = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.,:"


def fetch(folder: Path, packages: Iterable[str] = PRINTED + HANDWRITTEN) -> list[Path]:
    """The font files of these packages, unpacked under `folder`; packages that are not to be had are left out."""
    homes = [folder / package for package in packages]
    for home in homes:
        if home.exists():
            continue
        home.mkdir(parents=True)
        subprocess.run(["apt-get", "download", "-q", home.name], cwd=home, check=False, capture_output=True)
        for archive in home.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", archive.name, "."], cwd=home, check=True)
    return sorted(path for home in homes for suffix in ("ttf", "otf") for path in home.rglob(f"*.{suffix}"))


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
