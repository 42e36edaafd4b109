"""`diffusiongemma deploy`, and `serve --replicas`: engines on Ray."""

from __future__ import annotations

import json
import os
import signal
import threading
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diffusiongemma.cli import options as given
from diffusiongemma.cli.running import say
from diffusiongemma.cli.serve import ApiKeys, keys_of, name_of
from diffusiongemma.errors import InputError

if TYPE_CHECKING:
    from diffusiongemma.cluster.fleet import Fleet
    from diffusiongemma.serve.settings import Settings

CLUSTER = "Cluster"

Address = Annotated[
    str, typer.Option(metavar="ray://HOST:PORT|auto", help="Where the cluster is; auto on one of its machines.",
                      rich_help_panel=CLUSTER)
]  # fmt: skip
Name = Annotated[str, typer.Option(help="What it is called on the cluster.", rich_help_panel=CLUSTER)]
Remove = Annotated[bool, typer.Option("--remove", help="Take it down again.", rich_help_panel=CLUSTER)]
Replicas = Annotated[str, typer.Option(metavar="N|LEAST-MOST", help="Engines.", rich_help_panel=CLUSTER)]
Cpus = Annotated[float, typer.Option(help="Cores of each engine.", rich_help_panel=CLUSTER)]
Gpus = Annotated[float, typer.Option(help="GPUs of each engine.", rich_help_panel=CLUSTER)]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A setting of the server, as max_requests=32; may be repeated."),
]


@given.takes(None)
def deploy(
    model: given.Model = "nano",
    *,
    address: Address = "auto",
    name: Name = "diffusiongemma",
    remove: Remove = False,
    replicas: Replicas = "1",
    replica_cpus: Cpus = 1.0,
    replica_gpus: Gpus = 0.0,
    api_key: ApiKeys = None,
    set_: Set = None,
    loading: given.Loading,
) -> None:
    """Serve a model on a cluster of Ray.

    Its machines must have this package, and the model under the same name.
    """
    from diffusiongemma.cluster import require_ray
    from diffusiongemma.cluster.fleet import Fleet

    require_ray()
    wanted = {"replicas": replicas, "replica_cpus": replica_cpus, "replica_gpus": replica_gpus, "model": model}
    wanted |= {"model_name": name_of(model), "api_keys": keys_of(api_key or [])} | _of_one_process(loading)
    fleet = Fleet.of(wanted | _given(set_ or []))
    from diffusiongemma.cluster import deploy as cluster
    from diffusiongemma.cluster.connection import connect

    connect(address)
    if remove:
        cluster.remove(name)
        return say(f"{name} is taken down")
    cluster.run(fleet, name)
    say(f"{name} answers at port 8000 of the cluster's machines; take it down with --remove")


def _given(values: list[str]) -> dict[str, Any]:
    found = {}
    for value in values:
        key, equals, text = value.partition("=")
        if not (key and equals):
            raise InputError("write NAME=VALUE", option="set_", got=value)
        try:
            found[key] = json.loads(text)
        except ValueError:
            found[key] = text
    return found


def serve_replicas(
    model: str,
    loading: given.Loading,
    settings: Settings,
    replicas: str,
    cpus: float | None,
    gpus: float | None,
    host: str,
    port: int,
) -> None:
    """On this machine, until a signal comes. Raises `InputError`."""
    fleet = fleet_here(model, loading, settings, replicas, cpus, gpus)
    port = _free(host, port)
    from diffusiongemma.cluster import deploy as cluster

    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    try:
        cluster.start_local(fleet, host, port)
        address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        print(f"API   {address}/v1\npage  {address}/", flush=True)
        while not stopped.wait(0.5):
            pass
    finally:
        cluster.stop_local()


def fleet_here(
    model: str, loading: given.Loading, settings: Settings, replicas: str, cpus: float | None, gpus: float | None
) -> Fleet:
    """Engines that share out what this machine has. Raises `InputError`."""
    from diffusiongemma.cluster import require_ray
    from diffusiongemma.cluster.fleet import Fleet, replicas_of

    require_ray()
    least, most = replicas_of(replicas)
    cpus = max(1.0, (os.cpu_count() or 1) // max(1, most)) if cpus is None else cpus
    gpus = _gpus(loading) if gpus is None else gpus
    return Fleet(model, _of_one_process(loading), settings, least, most, cpus, gpus)


def _of_one_process(loading: given.Loading) -> dict[str, Any]:
    """How each engine loads its model. Raises `InputError` where that takes several processes."""
    how = asdict(loading)
    if (processes := how.pop("tensor_parallel")) != 1:
        message = "Ray gives each engine one process: use `devices`, or leave it out"
        raise InputError(message, option="tensor_parallel", got=processes)
    return how


def _gpus(loading: given.Loading) -> float:
    """As many as each engine has devices, where these are GPUs."""
    from diffusiongemma.weights.locate import choose_devices

    return float(sum(device.type == "cuda" for device in choose_devices(loading.device, loading.devices)))


def _free(host: str, port: int) -> int:
    """The port, or one that is free for 0. Raises `InputError` where it cannot be had."""
    from diffusiongemma.serve.transport.run import listen

    with listen(host, port) as listener:
        return int(listener.getsockname()[1])
