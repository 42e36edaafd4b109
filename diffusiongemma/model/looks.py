"""Several looks at one picture, each moved a little: what one misreads at the edge of a patch, others tell better."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

LOOKS = ((0, 0), (3, 0), (-3, 0), (0, 3), (0, -3))  # pixels to the right and down


def looks_at(pixels: Tensor, positions: Tensor) -> Tensor:
    """Patches [P, 3 * patch²] of a picture at grid positions [P, 2] (column, row; -1: padding) -> those of the same
    places [looks, P, 3 * patch²] in the picture as it is and as it is moved; its rim is drawn out."""
    there = positions[:, 0] >= 0
    columns, rows = positions[there].T
    patch = round((pixels.shape[1] / 3) ** 0.5)
    across, down = int(columns.max()) + 1, int(rows.max()) + 1
    picture = pixels.new_zeros(down, across, patch, patch, 3)
    picture[rows, columns] = pixels[there].view(-1, patch, patch, 3)
    picture = picture.permute(4, 0, 2, 1, 3).reshape(1, 3, down * patch, across * patch)
    looks = pixels.repeat(len(LOOKS), 1, 1)
    for look, move in zip(looks, LOOKS, strict=True):
        cut = _moved(picture, *move).view(3, down, patch, across, patch).permute(1, 3, 2, 4, 0)
        look[there] = cut[rows, columns].flatten(1)
    return looks


def _moved(picture: Tensor, right: int, down: int) -> Tensor:
    """[1, 3, H, W] moved by so many pixels."""
    reach = max(map(max, LOOKS))
    framed = F.pad(picture, (reach,) * 4, mode="replicate")
    height, width = picture.shape[-2:]
    return framed[..., reach - down : reach - down + height, reach - right : reach - right + width]
