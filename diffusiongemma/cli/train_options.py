"""The options of `diffusiongemma train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diffusiongemma.cli import options as given

RUN, SPEED, LOSS = "Length", "Memory and speed", "Objective"

Base = Annotated[
    str,
    typer.Option("--model", metavar="nano|PATH|HUB_ID", help="The model to start from.", rich_help_panel=given.MODEL),
]
Out = Annotated[Path, typer.Option(metavar="DIR", help="Where the result goes, ready for --model.")]
Lora = Annotated[
    int | None,
    typer.Option(
        metavar="RANK",
        help="Train adapters of this rank, 0 for all weights. (default: 0 for small models, 8 for large ones)",
        rich_help_panel=given.MODEL,
    ),
]
LoraExperts = Annotated[
    bool, typer.Option("--lora-experts", help="Adapters on the routed experts too.", rich_help_panel=given.MODEL)
]
Steps = Annotated[int | None, typer.Option(metavar="N", help="End after N steps.", rich_help_panel=RUN)]
Budget = Annotated[str | None, typer.Option(metavar="50m|3600s|1h", help="End after this time.", rich_help_panel=RUN)]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on with the run in --out, if there is one.", rich_help_panel=RUN)
]
BatchSize = Annotated[int | None, typer.Option(metavar="N", help="Examples per step.", rich_help_panel=RUN)]
LearningRate = Annotated[float | None, typer.Option(metavar="X", help="The highest one.", rich_help_panel=RUN)]
Seed = Annotated[int, typer.Option(metavar="N", help="Of data order and noise.", rich_help_panel=RUN)]
EvaluateEvery = Annotated[
    int | None, typer.Option(metavar="N", help="Evaluate every N steps, 0: at the end.", rich_help_panel=RUN)
]
Accumulate = Annotated[
    int,
    typer.Option(metavar="N", help="Work a batch off in N parts; the result is the same.", rich_help_panel=SPEED),
]
Processes = Annotated[
    int,
    typer.Option(
        metavar="N", help="Train in N processes on this machine's cores, each on its part.", rich_help_panel=SPEED
    ),
]
GradCheckpoint = Annotated[
    bool | None,
    typer.Option(
        "--grad-checkpoint/--no-grad-checkpoint",
        help="Compute layers again instead of keeping what they computed. (default: for large models)",
        rich_help_panel=SPEED,
    ),
]
Compile = Annotated[
    bool,
    typer.Option(
        "--compile",
        help="Compile the layers: one to three minutes at first, then faster steps.",
        rich_help_panel=SPEED,
    ),
]
Precision = Annotated[
    str, typer.Option(metavar="auto|bfloat16|float32", help="Of matrix products.", rich_help_panel=SPEED)
]
Draws = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Noise draws per canvas and encoder pass. (default: 1, sudoku on small models 2)",
        rich_help_panel=LOSS,
    ),
]
NoiseBias = Annotated[
    float | None,
    typer.Option(
        metavar="B",
        help="Density of noise level t is B·t^(B-1). (default: 1, uniform; sudoku on small models 2)",
        rich_help_panel=LOSS,
    ),
]
EncoderEvery = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Learn to predict answers autoregressively too, on every Nth step. "
        "(default: 0 for none, on large models 4)",
        rich_help_panel=LOSS,
    ),
]
Rollouts = Annotated[
    int | None,
    typer.Option(
        metavar="READS",
        help="In the end learn from canvases that the model decodes, of each so many steps behind an encoder pass. "
        "(default: 3, on large models 0 for never)",
        rich_help_panel=LOSS,
    ),
]
RolloutsAfter = Annotated[
    float | None,
    typer.Option(
        metavar="SHARE",
        help="Begin with that after this share of the run. (default: 0.75, on large models 0)",
        rich_help_panel=LOSS,
    ),
]
