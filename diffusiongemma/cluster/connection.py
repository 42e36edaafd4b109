"""Ray that is there, or that is started on this machine."""

from __future__ import annotations

import logging
import math
import os
from typing import Any

import ray

from diffusiongemma.cluster.fleet import Fleet
from diffusiongemma.errors import InputError

# Ray's processes give way to all others (nice 15), and it starts another proxy where one is not up in five seconds: on
# one machine that others use as well, nothing would come up.
ENVIRONMENT = {
    "RAY_worker_niceness": "0",
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    "RAY_USAGE_STATS_ENABLED": "0",
}


def reach(address: str, fleet: Fleet) -> None:
    """A cluster that is there, or with "local" one for this fleet on this machine. Raises `InputError`."""
    if address == "local":
        start(fleet)
    else:
        connect(address)


def start(fleet: Fleet) -> None:
    """In processes of this machine, with room for the fleet. Raises `InputError` where it does not come up."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    cpus, gpus = (math.ceil(fleet.most * each) for each in (fleet.cpus, fleet.gpus))
    try:
        _init(include_dashboard=False, num_cpus=cpus, num_gpus=gpus or None)
    except Exception as error:  # of several kinds, the bare one among them
        raise InputError(f"Ray did not start ({str(error).strip().splitlines()[0]}): try again") from error


def connect(address: str) -> None:
    """A cluster that is there. Raises `InputError`."""
    try:
        _init(address=address)
    except (ConnectionError, RuntimeError, ValueError) as error:
        message = f"no cluster answers there ({str(error).strip().splitlines()[0]})"
        raise InputError(message, option="address", got=address) from error


def _init(**how: Any) -> None:
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    ray.init(log_to_driver=False, logging_level=logging.ERROR, **how)
