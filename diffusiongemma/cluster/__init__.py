"""More than one machine, or more than one engine on one: Ray Serve for requests, Ray Data for files of them.

`fleet`, `conversations` and `tally` do without Ray. The other modules import it, and are imported only when asked for.
"""

from __future__ import annotations

from importlib.util import find_spec

from diffusiongemma.errors import InputError


def require_ray() -> None:
    """Raises `InputError` where the extra is not installed."""
    if find_spec("ray") is None:
        raise InputError("this needs Ray: pip install 'diffusiongemma[ray]'")
