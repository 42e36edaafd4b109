"""The stages of the embedded models: `python -m recipes.nano STAGE --help`. The model cards say which made what."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from diffusiongemma.errors import UserError
from recipes.nano import (
    apart,
    by_source,
    first_words,
    glyphs,
    marks,
    mean,
    reckoning,
    refit,
    sight,
    tokenizer,
    tower,
    train,
)

STAGES = {
    "tokenizer": tokenizer,
    "train": train,
    "met": apart,
    "mean": mean,
    "digits": glyphs,
    "tower": tower,
    "refit": refit,
    "marks": marks,
    "pictures": sight,
    "first-words": first_words,
    "by-source": by_source,
    "sums": reckoning,
}


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m recipes.nano", description=__doc__)
    stages = made.add_subparsers(required=True, metavar="|".join(STAGES))
    for name, module in STAGES.items():
        form = argparse.RawDescriptionHelpFormatter
        stage = stages.add_parser(name, description=module.__doc__, formatter_class=form)
        module.add_arguments(stage)
        stage.set_defaults(run=module.run)
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser().parse_args(arguments)
    try:
        options.run(options)
    except UserError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
