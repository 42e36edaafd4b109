"""The files of deploy/: their commands are ones that the parser takes, their parts fit each other."""

from __future__ import annotations

import json
import re
from importlib import import_module
from pathlib import Path

import kubernetes_validate
import pytest
import typer
import yaml

import diffusiongemma as dg
from diffusiongemma.cli import build
from diffusiongemma.cluster.fleet import Fleet
from diffusiongemma.serve.app import create_app
from diffusiongemma.serve.settings import Settings

DEPLOY = Path(__file__).parents[2] / "deploy"


def manifests(name: str):
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


def options_of(arguments: list[str]) -> dict[str, object]:
    """What the command line makes of them. Raises where it does not take them."""
    program = typer.main.get_command(build(arguments))
    command = program.commands[arguments[0]]
    return command.make_context(arguments[0], list(arguments[1:])).params


def dockerfile() -> list[tuple[str, str]]:
    text = re.sub(r"^#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in text.splitlines() if line)]


def paths() -> set[str]:
    return set(create_app(dg.load("nano"), Settings()).openapi()["paths"])


def test_the_image_is_no_root_is_checked_and_starts_with_options_that_exist():
    steps = dockerfile()
    known = {"FROM", "ARG", "RUN", "WORKDIR", "COPY", "ENV", "USER", "VOLUME", "EXPOSE", "HEALTHCHECK", "STOPSIGNAL"}
    assert {word for word, _ in steps} == known | {"ENTRYPOINT", "CMD"}
    words = dict(steps)  # the last of each
    assert words["USER"] == "diffusiongemma" and words["STOPSIGNAL"] == "SIGTERM"
    assert json.loads(words["ENTRYPOINT"]) == ["diffusiongemma"]
    options = options_of(json.loads(words["CMD"]))
    assert options["host"] == "0.0.0.0" and str(options["port"]) == words["EXPOSE"]
    assert options["batch_dir"].is_relative_to(words["VOLUME"])
    check = words["HEALTHCHECK"].partition("CMD ")[2]
    code = json.loads(check)[2]
    compile(code, "HEALTHCHECK", "exec")
    assert re.search(r":8000(/\w+)'", code)[1] in paths()
    first = [rest for word, rest in steps if word == "FROM"]
    assert len(first) == 2 and len(set(one.split()[0] for one in first)) == 1


def test_extras_of_the_image_exist():
    import tomllib

    extras = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (given,) = [rest.partition("=")[2] for word, rest in dockerfile() if rest.startswith("EXTRAS=")]
    assert set(given.split(",")) <= set(extras)


def test_compose():
    (compose,) = manifests("compose.yaml")
    arguments = {rest.partition("=")[0] for word, rest in dockerfile() if word == "ARG"}
    for service in compose["services"].values():
        options = options_of(service["command"])
        assert options["api_key"] == ["@/run/secrets/keys"] and set(service["secrets"]) <= set(compose["secrets"])
        assert set(service["build"].get("args", {})) <= arguments
        assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).exists()
        assert {volume.split(":")[0] for volume in service["volumes"]} <= set(compose["volumes"])
        assert float(service["stop_grace_period"].rstrip("s")) > options["grace"]
        assert service["ports"] == [f"{options['port']}:{options['port']}"]


def test_kubernetes():
    deployment, claim, service = manifests("kubernetes.yaml")
    spec = deployment["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    options = options_of(container["args"])
    assert options["host"] == "0.0.0.0" and options["grace"] < spec["terminationGracePeriodSeconds"]
    assert options["port"] == container["ports"][0]["containerPort"] == service["spec"]["ports"][0]["port"]
    known = paths()
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/health", "port": "http"} and "/health" in known
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == service["spec"]["selector"] == labels
    assert spec["securityContext"]["runAsNonRoot"] and not container["securityContext"]["allowPrivilegeEscalation"]
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
    assert volumes["data"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    keys = next(mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == "keys")
    assert options["api_key"] == [f"@{keys}/keys.txt"]


def test_ray_service():
    (service,) = manifests("rayservice.yaml")
    config = yaml.safe_load(service["spec"]["serveConfigV2"])
    (application,) = config["applications"]
    fleet = Fleet.of(application["args"])
    cluster = service["spec"]["rayClusterConfig"]
    (group,) = cluster["workerGroupSpecs"]
    (worker,) = group["template"]["spec"]["containers"]
    assert group["maxReplicas"] >= fleet.most and group["minReplicas"] >= fleet.least
    assert float(worker["resources"]["requests"]["cpu"]) >= fleet.cpus
    assert float(worker["resources"]["limits"]["nvidia.com/gpu"]) >= fleet.gpus
    head = cluster["headGroupSpec"]["template"]["spec"]
    assert all(one["securityContext"]["runAsNonRoot"] for one in (head, group["template"]["spec"]))
    ports = {port["name"]: port["containerPort"] for port in head["containers"][0]["ports"]}
    assert ports["serve"] == config["http_options"]["port"]
    pytest.importorskip("ray")
    from ray.serve.schema import ServeDeploySchema

    ServeDeploySchema.model_validate(config)
    module, _, name = application["import_path"].partition(":")
    built = getattr(import_module(module), name)(application["args"])
    assert type(built).__name__ == "Application"


def pod_templates():
    """Of the cluster that KubeRay makes: its own objects are not among Kubernetes' schemas, their pods are."""
    (service,) = manifests("rayservice.yaml")
    cluster = service["spec"]["rayClusterConfig"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        yield {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "pod"}, "template": group["template"]}


def test_manifests_by_the_schemas_of_kubernetes():
    version = kubernetes_validate.latest_version()
    objects = [*manifests("kubernetes.yaml"), *pod_templates()]
    for one in objects:
        kubernetes_validate.validate(one, version, strict=True)
    objects[-1]["template"]["spec"]["containers"][0]["resource"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="'resource' was unexpected"):
        kubernetes_validate.validate(objects[-1], version, strict=True)
