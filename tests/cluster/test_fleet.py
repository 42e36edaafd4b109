"""What a fleet needs no Ray for: its arguments, whose conversation a request is, and sums of metrics."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from diffusiongemma.cluster import tally as clock
from diffusiongemma.cluster.conversations import conversation_of, home_of
from diffusiongemma.cluster.fleet import Fleet, replicas_of
from diffusiongemma.cluster.tally import Tally
from diffusiongemma.errors import InputError

pytest_plugins = ["cli_fixtures"]

WITHOUT_RAY = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "ray":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == "ray" else found(name, package)
from diffusiongemma.cli import main
main(sys.argv[1:])
"""


@pytest.mark.parametrize(
    "command",
    [["serve", "--replicas", "2"], ["deploy"], ["batch", "requests.jsonl", "answers.jsonl", "--ray", "auto"]],
)
def test_without_ray_the_commands_say_what_to_install(command, tmp_path):
    body = {"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {"prompt": "one"}}
    (tmp_path / "requests.jsonl").write_text(json.dumps(body))
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_RAY, *command], capture_output=True, text=True, cwd=tmp_path, timeout=120
    )
    assert done.returncode == 2 and "pip install 'diffusiongemma[ray]'" in done.stderr, done.stderr
    assert len(done.stderr.splitlines()) == 1 and not (tmp_path / "answers.jsonl").exists()


def test_what_does_without_ray_does_not_import_it():
    modules = "diffusiongemma.api, diffusiongemma.serve.app, diffusiongemma.cli.serve, diffusiongemma.cli.batch"
    modules += ", diffusiongemma.cli.deploy, diffusiongemma.cluster.fleet, diffusiongemma.cluster.tally"
    code = f"import sys, {modules}; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_arguments_of_a_manifest():
    given = {"model": "nano", "replicas": "1-4", "replica_cpus": 2, "device": "cpu", "max_requests": 8}
    fleet = Fleet.of(given | {"api_keys": ["long enough"], "batch_dir": "/data", "adapters": {"a": "/a"}})
    assert (fleet.least, fleet.most, fleet.cpus, fleet.gpus, dict(fleet.loading)) == (1, 4, 2, 0.0, {"device": "cpu"})
    settings = fleet.settings
    assert settings.model_name == "nano" and settings.max_requests == 8 and settings.api_keys == ("long enough",)
    assert settings.batch_dir == Path("/data") and settings.adapters == {"a": Path("/a")}
    assert Fleet.of({}) == Fleet()


@pytest.mark.parametrize(
    "given",
    [{"replica": 2}, {"replicas": "4-1"}, {"replicas": "0"}, {"replicas": "x"}, {"max_requests": 0},
     {"replica_cpus": 0}, {"replica_gpus": -1}],
)  # fmt: skip
def test_arguments_that_are_none(given):
    with pytest.raises(InputError):
        Fleet.of(given)


def test_numbers_of_replicas():
    assert replicas_of("3") == (3, 3) and replicas_of(" 1-16 ") == (1, 16)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ("serve --replicas 0", "--replicas"),
        ("serve --replicas 2 --replica-cpus -1", "--replica-cpus"),
        ("serve --replica-cpus 1", "add --replicas"),
        ("deploy --replicas x", "--replicas"),
        ("deploy --set max_requests", "--set"),
        ("deploy --set nothing=1", "unknown argument 'nothing'"),
        ("deploy --set max_requests=0", "max_requests"),
    ],
)
def test_options_that_make_no_fleet(cli, options, what):
    done = cli(*options.split())
    assert done.code == 2 and what in done.err


def body(*texts: str, **fields) -> bytes:
    roles = ("user", "assistant")
    messages = [{"role": roles[n % 2], "content": text} for n, text in enumerate(texts)]
    return json.dumps({"messages": messages} | fields).encode()


def test_turns_of_a_conversation_belong_together():
    second, third = conversation_of(body("a", "b", "c", seed=1)), conversation_of(body("a", "b", "c", "d", "e"))
    assert second == third != ""
    others = [body("b", "b", "c"), body("a", "b", "c", model="x"), body("a", "b", "c", system="s")]
    assert len({second, *map(conversation_of, others)}) == 4
    for alone in (body("a"), b"", b"{", b"[1]", b'{"prompt": "a"}', b'{"messages": [3, {}]}', b" " * 2**21):
        assert conversation_of(alone) == ""


def test_most_conversations_stay_when_replicas_come_and_go():
    names, conversations = ["a", "b", "c"], [str(n) for n in range(600)]
    before = [home_of(one, names) for one in conversations]
    assert all(150 < before.count(name) < 250 for name in names)
    fewer = [home_of(one, ["a", "c"]) for one in conversations]
    assert all(new == old for new, old in zip(fewer, before, strict=True) if old != "b")


METRICS = """# HELP x_total Things
# TYPE x_total counter
x_total{path="/a"} 3.0
x_total{path="/b"} 1.0
# HELP now Present
# TYPE now gauge
now 2.0
# HELP took Seconds
# TYPE took histogram
took_bucket{le="1.0"} 1.0
took_bucket{le="+Inf"} 2.0
took_count 2.0
took_sum 5.0
"""


def test_metrics_are_added_up_and_what_was_counted_stays(monkeypatch):
    tally, now = Tally(), 100.0
    monkeypatch.setattr(clock.time, "monotonic", lambda: now)
    for replica in ("one", "two"):
        tally.put(replica, METRICS)
    lines = tally.text().decode().splitlines()
    assert 'x_total{path="/a"} 6.0' in lines and "now 4.0" in lines and 'took_bucket{le="+Inf"} 4.0' in lines
    assert "took_sum 10.0" in lines and "diffusiongemma_replicas 2.0" in lines and "# TYPE took histogram" in lines
    now += clock.SILENT + 1
    tally.put("one", METRICS.replace('"/a"} 3.0', '"/a"} 4.0'))
    lines = tally.text().decode().splitlines()
    assert 'x_total{path="/a"} 7.0' in lines and "now 2.0" in lines and "diffusiongemma_replicas 1.0" in lines
