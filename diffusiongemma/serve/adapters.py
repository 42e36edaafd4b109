"""LoRA adapters on the served model: each has a name, by which requests ask for it as for a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from diffusiongemma.errors import CheckpointError
from diffusiongemma.model.model import Model
from diffusiongemma.serve.body_types import Reply, Text
from diffusiongemma.serve.errors import ApiError, refusal
from diffusiongemma.serve.model_names import names_of
from diffusiongemma.serve.tolerance import ANY, Tolerant, also
from diffusiongemma.weights.adapter import load_adapter
from diffusiongemma.weights.lora import adapters, view_of

if TYPE_CHECKING:
    from diffusiongemma.serve.service import Service


class LoadRequest(Tolerant):
    harmless = also(load_inplace=(False,), lora_int_id=ANY, base_model_name=ANY)
    lora_name: Text = Field(min_length=1, max_length=200)
    lora_path: Text = Field(min_length=1, description="a directory of the server's machine")


class UnloadRequest(Tolerant):
    harmless = also(lora_int_id=ANY)
    lora_name: Text


class AdapterReply(Reply):
    message: str
    adapters: list[str]


def adapted(base: Model, directory: Path) -> Model:
    """The model with an adapter beside it, over the same weights. Raises `CheckpointError` or `InputError`."""
    _ = base.vision  # read once, for all
    model = view_of(base)
    load_adapter(model, directory)
    return model.eval()


def adapter_bytes(model: Model) -> int:
    return sum(parameter.nbytes for lora in adapters(model).values() for parameter in lora.parameters())


class ServedAdapters:
    """Those of a service, by name. What a request runs on stays until it has ended, loaded or not."""

    def __init__(self, service: Service):
        self._service, self._engine = service, service.worker.engine
        self.names: dict[str, Path] = service.settings.adapters
        for name, directory in self.names.items():
            self._put(name, adapted(service.model.network, directory))

    def of(self, model: str | None) -> str:
        """The adapter that a request asks for by the name of a model; "" for the model itself."""
        name = (model or "").removesuffix(":latest")
        return name if name in self.names else ""

    def check_allowed(self) -> None:
        """Whoever reaches a server without keys may ask of it, not change it. Raises `ApiError`."""
        settings = self._service.settings
        if not (settings.api_keys or settings.lora_loading):
            message = "adapters are loaded and unloaded with a key only: start the server with --api-key"
            raise ApiError(403, f"{message}, or with --lora-loading to let everybody who reaches it do so")

    def load(self, body: LoadRequest) -> Model:
        """Read an adapter, away from the event loop. Raises `ApiError`."""
        if body.lora_name in names_of(self._service.settings):
            raise refusal(
                f"there is a model {body.lora_name[:100]!r} already: unload it, or choose a name", "lora_name"
            )
        try:
            return adapted(self._service.model.network, Path(body.lora_path))
        except (CheckpointError, OSError, ValueError) as error:
            raise refusal(f"the adapter cannot be loaded: {error}"[:500], "lora_path") from error

    def add(self, body: LoadRequest, model: Model) -> AdapterReply:
        """In the event loop. Raises `ApiError` where another took the name, or there is no memory."""
        if body.lora_name in self.names:
            raise refusal(f"there is a model {body.lora_name[:100]!r} already", "lora_name")
        if adapter_bytes(model) >= self._service.worker.budget:
            raise refusal("the adapter is larger than the memory for caches", "lora_path", "request_too_large")
        self._put(body.lora_name, model)
        self.names[body.lora_name] = Path(body.lora_path)
        return self._reply(f"{body.lora_name} is loaded")

    def remove(self, body: UnloadRequest) -> AdapterReply:
        """In the event loop. Raises `ApiError` for a name that no adapter has."""
        if body.lora_name not in self.names:
            raise ApiError(404, f"no adapter {body.lora_name[:100]!r} here", param="lora_name", code="model_not_found")
        del self.names[body.lora_name]
        models = dict(self._engine.adapted)
        self._count(-adapter_bytes(models.pop(body.lora_name)))
        self._engine.adapted = models
        return self._reply(f"{body.lora_name} is unloaded")

    def _put(self, name: str, model: Model) -> None:
        self._engine.adapted = {**self._engine.adapted, name: model}  # the engine's thread sees either of the two
        self._count(adapter_bytes(model))

    def _count(self, taken: int) -> None:
        worker = self._service.worker
        worker.budget -= taken
        self._engine.budget = worker.budget

    def _reply(self, message: str) -> AdapterReply:
        return AdapterReply(message=message, adapters=list(self.names))
