"""`diffusiongemma serve`: the OpenAI-compatible server and the page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diffusiongemma.cli import options as given
from diffusiongemma.errors import InputError

if TYPE_CHECKING:
    from diffusiongemma.serve.settings import Settings

LIMITS, ACCESS, KEEPING, REPLICAS = "Limits", "Access", "Keeping", "Replicas"


def several(flag: str, metavar: str, help: str, panel: str) -> Any:
    """An option that may be repeated."""
    return typer.Option(flag, metavar=metavar, help=f"{help}; may be repeated.", rich_help_panel=panel)


Host = Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 is all of them.", rich_help_panel=ACCESS)]
Port = Annotated[int, typer.Option(help="0 takes any free one.", min=0, max=65535, rich_help_panel=ACCESS)]
ApiKeys = Annotated[
    list[str] | None, several("--api-key", "KEY|@FILE", "Ask for one of these; a file has one a line", ACCESS)
]
Origins = Annotated[list[str] | None, several("--cors-origin", "URL", "Web pages of this origin may call", ACCESS)]
AllowUrls = Annotated[
    bool, typer.Option("--allow-urls", help="Fetch images from public web addresses.", rich_help_panel=ACCESS)
]
Hosts = Annotated[list[str] | None, several("--allowed-host", "NAME", "Public name to answer to without keys", ACCESS)]
Lenient = Annotated[
    bool, typer.Option("--lenient", help="Take unknown fields, and name them in x-ignored-fields.",
                       rich_help_panel=ACCESS)
]  # fmt: skip
Loras = Annotated[list[str] | None, several("--lora", "NAME=DIR", "Adapter to ask for as a model NAME", ACCESS)]
LoraLoading = Annotated[
    bool, typer.Option("--lora-loading", help="Let requests load and unload adapters where no key is asked for.",
                       rich_help_panel=ACCESS)
]  # fmt: skip
Aliases = Annotated[list[str] | None, several("--alias", "NAME", "Model name to answer to as well; * is any", ACCESS)]
MaxRequests = Annotated[int, typer.Option(help="Requests computed together.", rich_help_panel=LIMITS)]
MaxQueue = Annotated[int, typer.Option(help="Requests that may wait.", rich_help_panel=LIMITS)]
MaxTokens = Annotated[int, typer.Option(help="Tokens of all accepted requests.", rich_help_panel=LIMITS)]
Memory = Annotated[
    float | None,
    typer.Option(metavar="GIB", help="For caches. (default: half of what is free, of a GPU 80 %)",
                 rich_help_panel=LIMITS),
]  # fmt: skip
MaxBody = Annotated[int, typer.Option(metavar="MIB", help="Size of a request's body.", rich_help_panel=LIMITS)]
Grace = Annotated[float, typer.Option(metavar="SECONDS", help="To finish after a stop signal.", rich_help_panel=LIMITS)]
TraceDir = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Keep a trace of each request.", rich_help_panel=KEEPING)
]
BatchDir = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Keep /v1/files and /v1/batches.", rich_help_panel=KEEPING)
]
LogPrompts = Annotated[bool, typer.Option("--log-prompts", help="Log prompts too.", rich_help_panel=KEEPING)]


Replicas = Annotated[
    str | None, typer.Option(metavar="N|LEAST-MOST", help="So many engines, on Ray. Limits are each one's.",
                             rich_help_panel=REPLICAS)
]  # fmt: skip
Ray = Annotated[
    str | None, typer.Option(metavar="local|auto|ray://HOST:PORT", help="Answer on a cluster of Ray.",
                             rich_help_panel=REPLICAS)
]  # fmt: skip
ReplicaCpus = Annotated[
    float | None, typer.Option(metavar="N", help="Cores of each. (default: all, shared out)", rich_help_panel=REPLICAS)
]
ReplicaGpus = Annotated[
    float | None, typer.Option(metavar="N", help="GPUs of each. (default: 1 where there are any)",
                               rich_help_panel=REPLICAS)
]  # fmt: skip


@given.takes(None)
def serve(
    model: given.Model = "nano",
    *,
    loading: given.Loading,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    api_key: ApiKeys = None,
    cors_origin: Origins = None,
    allowed_host: Hosts = None,
    allow_urls: AllowUrls = False,
    lenient: Lenient = False,
    alias: Aliases = None,
    lora: Loras = None,
    lora_loading: LoraLoading = False,
    max_requests: MaxRequests = 16,
    max_queue: MaxQueue = 64,
    max_tokens: MaxTokens = 1_000_000,
    memory: Memory = None,
    max_body: MaxBody = 32,
    grace: Grace = 30.0,
    trace_dir: TraceDir = None,
    batch_dir: BatchDir = None,
    log_prompts: LogPrompts = False,
    replicas: Replicas = None,
    replica_cpus: ReplicaCpus = None,
    replica_gpus: ReplicaGpus = None,
) -> None:
    """Serve a model: OpenAI's API, the streaming protocol for drafts, and a page to watch it."""
    from diffusiongemma.cli.running import open_model
    from diffusiongemma.serve.transport.threads import in_own_thread

    if not 0 <= grace <= 3600:
        raise InputError("give seconds from 0 to 3600", option="grace", got=grace)
    settings = settings_of(
        model,
        alias,
        lora,
        memory,
        lora_loading=lora_loading,
        max_requests=max_requests,
        max_queue=max_queue,
        max_tokens=max_tokens,
        api_keys=keys_of(api_key or []),
        cors_origins=tuple(cors_origin or ()),
        allowed_hosts=(host, *(allowed_host or ())),
        allow_urls=allow_urls,
        lenient=lenient,
        trace_dir=_folder(trace_dir),
        batch_dir=batch_dir,
        log_prompts=log_prompts,
        max_body=max_body * 2**20,
        grace=grace,
    )
    _say_whether_it_fits(model, loading)
    if replicas is not None:
        from diffusiongemma.cli.deploy import serve_replicas

        return serve_replicas(model, loading, settings, replicas, replica_cpus, replica_gpus, host, port)
    if replica_cpus is not None or replica_gpus is not None:
        raise InputError("one engine has all there is: add `replicas`, or leave `replica_cpus` and `replica_gpus` out")
    loaded = in_own_thread(lambda: open_model(model, loading))
    if loaded.tokenizer is None:
        raise InputError(f"{model} has no tokenizer files: a server is about text")
    from diffusiongemma.serve.transport.run import serve as run

    run(loaded, settings, host, port)


def _say_whether_it_fits(model: str, loading: given.Loading) -> None:
    """One line on stderr before a large model is loaded."""
    from diffusiongemma.cli.running import say
    from diffusiongemma.weights.fitting import LARGE, fit
    from diffusiongemma.weights.locate import choose_devices

    devices = choose_devices(loading.device, loading.devices)
    found = fit(model, *devices, processes=loading.tensor_parallel)
    if not found.fits:
        say(f"{model} {found}: it will be slow or fail; {found.advice(model)}", "yellow")
    elif found.need.weights > LARGE:
        say(f"{model} {found}")


def name_of(model: str) -> str:
    """What a model is called in requests and replies."""
    return Path(model).name if Path(model).exists() else model


def settings_of(
    model: str, alias: list[str] | None, lora: list[str] | None, memory: float | None, **more: Any
) -> Settings:
    """The settings that serving and answering files have in common, and `more` of them. Raises `InputError`."""
    from diffusiongemma.serve.settings import Settings

    names = {"model_name": name_of(model), "aliases": tuple(alias or ()), "adapters": adapters_of(lora or [])}
    return Settings(**names, memory=bytes_of(memory), **more)  # type: ignore[arg-type]


def bytes_of(memory: float | None) -> int | None:
    """Bytes of GiB. Raises `InputError`."""
    if memory is not None and not 0 < memory < 2**20:
        raise InputError("give GiB above 0", option="memory", got=memory)
    return None if memory is None else int(memory * 2**30)


def adapters_of(values: list[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for value in values:
        name, equals, folder = value.partition("=")
        if not (name and equals and folder) or name in found:
            raise InputError("write NAME=DIR, each name once", option="lora", got=value)
        found[name] = Path(folder)
    return found


def keys_of(values: list[str]) -> tuple[str, ...]:
    keys: list[str] = []
    for value in values:
        if not value.startswith("@"):
            keys.append(value)
            continue
        try:
            lines = Path(value[1:]).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read the keys in {value[1:]}: {error}") from error
        found = [key for line in lines if (key := re.sub(r"(^|\s)#.*", "", line).strip())]
        if not found:
            raise InputError(f"{value[1:]} holds no key: write one a line")
        keys += found
    return tuple(keys)


def _folder(folder: Path | None) -> Path | None:
    if folder is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot keep traces in {folder}: {error.strerror}") from error
    return folder
