"""A fleet as an application of Ray Serve. Manifests name `build` as their import path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ray
from ray import serve
from ray.serve.config import AutoscalingConfig, HTTPOptions, RequestRouterConfig

from diffusiongemma.cluster.connection import start
from diffusiongemma.cluster.fleet import Fleet
from diffusiongemma.cluster.front import Front
from diffusiongemma.cluster.replica import Replica
from diffusiongemma.errors import InputError

ROUTER = "diffusiongemma.cluster.routing:ConversationRouter"
BESIDE = 4  # requests beside those that are computed, such as for the page
MANY = 10_000
NAME = "diffusiongemma"


def build(arguments: Mapping[str, Any]) -> serve.Application:
    """The application of the arguments of a manifest: see `Fleet.of`."""
    return application(Fleet.of(arguments))


def application(fleet: Fleet) -> serve.Application:
    settings = fleet.settings
    deployment: Any = serve.deployment  # whose overloads leave its options out
    replica = deployment(
        Replica,
        name="Replica",
        ray_actor_options={"num_cpus": fleet.cpus, "num_gpus": fleet.gpus},
        max_ongoing_requests=settings.max_requests + BESIDE,
        max_queued_requests=(settings.max_queue or 1) * fleet.most,
        request_router_config=RequestRouterConfig(request_router_class=ROUTER),  # type: ignore[arg-type]
        health_check_period_s=2,
        graceful_shutdown_timeout_s=settings.grace,
        **_count(fleet),
    )
    front = deployment(
        serve.ingress()(Front), name="Front", ray_actor_options={"num_cpus": 0}, max_ongoing_requests=MANY
    )
    return front.bind(replica.bind(fleet), settings)


def _count(fleet: Fleet) -> dict[str, Any]:
    if fleet.least == fleet.most:
        return {"num_replicas": fleet.least}
    return {
        "autoscaling_config": AutoscalingConfig(
            min_replicas=fleet.least,
            max_replicas=fleet.most,
            target_ongoing_requests=max(1, fleet.settings.max_requests // 2),
            upscale_delay_s=fleet.upscale_delay,
            downscale_delay_s=fleet.downscale_delay,
            metrics_interval_s=min(1.0, fleet.upscale_delay / 2),
            look_back_period_s=max(1.0, fleet.upscale_delay),
        )
    }


def start_local(fleet: Fleet, host: str, port: int) -> None:
    """Ray in processes of this machine, and the fleet on it. Raises `InputError` where it does not come up."""
    start(fleet)
    serve.start(proxy_location="HeadOnly", http_options=HTTPOptions(host=host, port=port))
    run(fleet, NAME)


def run(fleet: Fleet, name: str) -> None:
    """On the cluster at hand, until it answers. Raises `InputError`."""
    try:
        serve.run(application(fleet), name=name, route_prefix="/")
    except RuntimeError as error:
        raise InputError(f"the replicas did not start: {str(error).strip().splitlines()[-1]}") from error


def remove(name: str) -> None:
    """Raises `InputError` where nothing has that name."""
    if name not in serve.status().applications:
        raise InputError("nothing is deployed under it", option="name", got=name)
    serve.delete(name)


def stop_local() -> None:
    """Lets running requests finish, for as long as the settings say."""
    serve.shutdown()
    ray.shutdown()
