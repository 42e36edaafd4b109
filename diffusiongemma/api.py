"""`DiffusionGemma`: a loaded model with its tokenizer, for people."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, cast, overload

import torch
from torch import Tensor

from diffusiongemma.asking import bias_of, constraint_of, pins_of, stops_of
from diffusiongemma.asynchronous import events_in_thread
from diffusiongemma.chat import Prompt, decode, encode_prompt
from diffusiongemma.chat.prompt import encode_text
from diffusiongemma.chat.shown_schema import with_schema
from diffusiongemma.config import ModelConfig
from diffusiongemma.control.constraint import Constraint
from diffusiongemma.control.tokens.vocabulary import Vocabulary, vocabulary_of
from diffusiongemma.diffusion.decoding import Decoding
from diffusiongemma.diffusion.samplers import Ancestral
from diffusiongemma.engine.auto import Auto
from diffusiongemma.engine.checks import checked
from diffusiongemma.engine.engine import Engine
from diffusiongemma.engine.plans.decide import Decision, decide_plan
from diffusiongemma.engine.plans.edit import EditResult, Span, edit_plan
from diffusiongemma.engine.plans.infill import InfillResult, Length, infill_plan
from diffusiongemma.engine.plans.plan import Plan, PlanContext, drive, plan_config
from diffusiongemma.engine.request import Request
from diffusiongemma.errors import InputError, check_kind
from diffusiongemma.events import Event, Finished, Result
from diffusiongemma.gpu import accelerate
from diffusiongemma.host import round_alike
from diffusiongemma.loading import Loading, network_of
from diffusiongemma.media import MediaSettings
from diffusiongemma.model.cache import KVCache, SequenceCache
from diffusiongemma.model.model import Model
from diffusiongemma.options import HOLE, STRENGTH, DecodingOptions, by_name, check_arguments
from diffusiongemma.prompts import check_prompt, is_batch, options_of
from diffusiongemma.request_options import RequestOptions
from diffusiongemma.signatures import AnswerOptions, BatchOptions, GenerateOptions, StreamOptions
from diffusiongemma.text.holes import split_at
from diffusiongemma.text.seams import TextTokens
from diffusiongemma.weights.locate import choose_device, locate_adapted
from diffusiongemma.weights.lora import require_plain, require_whole
from diffusiongemma.weights.opening import Checkpoint
from diffusiongemma.weights.packed_modules import packed_of
from diffusiongemma.weights.placing import Placement
from diffusiongemma.weights.saving import save_model
from diffusiongemma.weights.skills import abilities, load_skills, sees

if TYPE_CHECKING:
    from diffusiongemma.engine.session import Session
    from diffusiongemma.signatures import Message, PromptLike, Prompts, Schema

T = TypeVar("T")


class DiffusionGemma:
    """Made by `load`. Everything it does at the level of text needs the checkpoint's tokenizer files."""

    def __init__(self, model: Model, tokenizer: Any, generation: Decoding, directory: Path, media: MediaSettings):
        self.network, self.tokenizer, self.generation = model, tokenizer, generation
        self.directory, self.media = directory, media
        self.auto = Auto(model)
        self.placement: Placement | None = None  # of layers, where they are on several devices

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path = "nano",
        *,
        device: str | torch.device = "auto",
        devices: str | Sequence[str | torch.device] | None = None,
        dtype: str | torch.dtype = "auto",
        adapter: str | Path | None = None,
        quantize: str | None = None,
        activations: str = "auto",
        kv: str = "full",
        tensor_parallel: int = 1,
    ) -> DiffusionGemma:
        """Load `"nano"`, a directory in the Hugging Face layout, a GGUF file, or a hub id (downloaded on first use).

        Weights in few bits stay so. `:Q4_K_M` behind a directory or hub id chooses among GGUF files.

        `adapter` is a directory or hub id of a LoRA adapter in PEFT's format, used unmerged; an adapter as `source`
        brings the base model it names.
        `quantize` "mixed", "int8", "int4" or "fp8" puts weights in few bits while loading, one at a time; the command
        `diffusiongemma quantize` writes them so, once for all.
        `device` "auto" takes a GPU if there is one. `devices`, as `["cuda:0", "cuda:1"]`, lays the layers over several
        of one kind, by what is free on each; `placement` then says which is where. `dtype` "auto" keeps the file's, but
        computes in float32 where a small model runs on a CPU (files below 2 GB, of packed weights below half a GB), and
        packed weights where the CPU has no products of bfloat16.
        `activations` "int8" rounds what packed weights are multiplied with to 8 bits, which a CPU multiplies several
        times as fast; "auto" does so where it can, "full" never. `kv` "int8" keeps keys and values in 8 bits.
        `tensor_parallel` is the number of processes that torchrun has started, among which each layer is split. In the
        first one this returns the model; the others work for it, and do not come back from here.
        Raises `ModelNotFound`, `CheckpointError` or `InputError`.
        """
        round_alike()
        how = Loading(device, devices, dtype, quantize, activations, kv, tensor_parallel)
        path, adapter_directory = locate_adapted(source, adapter)
        checkpoint = Checkpoint.at(path)
        model, placement = network_of(checkpoint, adapter_directory, how)
        loaded = cls(model, checkpoint.tokenizer(), checkpoint.decoding(), path, MediaSettings.from_checkpoint(path))
        loaded.placement = placement
        model.symbols = _symbols(loaded)
        if model.device.type == "cuda":
            accelerate(model)
        return loaded

    @property
    def config(self) -> ModelConfig:
        return self.network.config

    @property
    def device(self) -> torch.device:
        """Where the weights are; of several devices that of the vocabulary."""
        return self.network.device

    def to(self, device: str | torch.device) -> DiffusionGemma:
        """Move the weights to another device -> the model itself. Raises `InputError` for one that is not here, and
        where weights are packed."""
        where = choose_device(device)
        require_whole(self.network)
        if {*self.network.backbone.places, self.device} != {where} and packed_of(self.network):
            raise InputError("packed weights stay where they were loaded: load the model with it", option="device")
        self.network.to(where)
        accelerate(self.network)
        self.placement = None
        return self

    @cached_property
    def skills(self) -> tuple[str, ...]:
        """What the checkpoint says it was taught, such as "sudoku"; none where it does not say."""
        return load_skills(self.directory)

    @property
    def about(self) -> str:
        """What the model is and can do, in two sentences; "" where the checkpoint does not say what it was taught."""
        return abilities(self.directory.name, self.parameters, self.skills)

    @property
    def parameters(self) -> int:
        """How many weights the text model has, packed ones too."""
        packed = sum(prod(weight.shape) for weight in packed_of(self.network).values())
        return packed + sum(parameter.numel() for parameter in self.network.parameters())

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """What each token writes, for all that is a matter of text. Raises `InputError` where that is not known."""
        if self.tokenizer is None:
            raise InputError(f"{self.directory} has no tokenizer files: this is a matter of text")
        return vocabulary_of(self.tokenizer, self.config.vocab_size)

    # Tensor level.

    def encode(self, ids: Tensor, cache: KVCache | None = None) -> KVCache:
        """Causal pass over ids [B, S], appended to `cache` in place if given -> KV cache."""
        check_kind(ids, Tensor, "ids")
        check_kind(cache, KVCache | None, "cache")
        return self.network.encode(ids, cache)

    def denoise(self, canvas: Tensor, cache: KVCache, soft: Tensor | None = None) -> Tensor:
        """canvas [B, C], soft [B, C, D] or None -> soft-capped float32 logits [B, C, V]."""
        check_kind(canvas, Tensor, "canvas")
        check_kind(cache, KVCache, "cache")
        check_kind(soft, Tensor | None, "soft")
        return self.network.denoise(canvas, cache, soft)

    def soft_embedding(self, shaped_logits: Tensor) -> Tensor:
        """[B, C, V] logits divided by the temperature -> [B, C, D], what the next step is conditioned on."""
        check_kind(shaped_logits, Tensor, "shaped_logits")
        return self.network.soft_embedding(shaped_logits)

    # Text level.

    def prompt(
        self,
        prompt: PromptLike,
        *,
        tools: Sequence[dict[str, Any]] | None = None,
        think: bool = False,
        raw: bool = False,
        schema: Schema | None = None,
    ) -> Prompt:
        """Token ids of a text (one user message), of messages, or of ids; `raw` takes a text without chat markup. The
        model is shown a sketch of `schema`, which its answer must match, where the messages do not say it.

        Raises `InputError` for what cannot be encoded, and for pictures where it was not taught to see.
        """
        check_prompt(prompt)
        check_arguments(tools=tools, think=think, raw=raw)
        if isinstance(prompt, Tensor):
            prompt = cast(list[int], prompt.flatten().tolist())
        if not isinstance(prompt, str) and all(isinstance(item, int) for item in prompt):
            return Prompt([int(item) for item in cast(Sequence[int], prompt)], [], [])
        if self.tokenizer is None:
            message = f"{self.directory} has no tokenizer files: give token ids instead of text"
            raise InputError(message, option="prompt")
        if raw:
            if not isinstance(prompt, str):
                raise InputError("with `raw` it is one text: give a text", option="prompt")
            return Prompt(encode_text(prompt, self.tokenizer), [], [])
        said = cast("str | Sequence[Message]", prompt)
        if schema is not None:
            said = with_schema(said, schema, in_user_turn="extraction" in self.skills)
        sight = self.config if sees(self.skills) else None
        encoded = encode_prompt(said, self.tokenizer, sight, tools=tools, thinking=think, media=self.media)
        if encoded.images:
            _ = self.network.vision  # read here, not in the thread that steps everybody's canvases
        return encoded

    def request(
        self,
        prompt: PromptLike | Prompt,
        *,
        id: int = 0,
        trace: bool = False,
        frames: bool = False,
        cache: SequenceCache | None = None,
        constraint: Constraint | None = None,
        **options: Unpack[AnswerOptions],
    ) -> Request:
        """A checked request for an `Engine`; `options` are the fields of `RequestOptions` and those of decoding.

        `trace` keeps every step in the result. With `frames` the argmax of every step matches what the answer must, as
        it does with `trace`. `cache` holds the beginning of the prompt; `constraint` is a form that has been compiled
        already. Raises `InputError` for what cannot be guaranteed or does not fit `max_new_tokens`.
        """
        check_arguments(id=id, trace=trace, frames=frames)
        asked, decoding = RequestOptions.split({**options})
        config, note = self._decoding(decoding)
        if not isinstance(prompt, Prompt):
            told = asked.json_schema if asked.show_schema else None
            prompt = self.prompt(prompt, tools=asked.tools, think=asked.think, raw=asked.raw, schema=told)
        request = Request(
            prompt,
            config,
            cache,
            has_form=constraint is not None or asked.form is not None,
            thinking=asked.think,
            record=trace,
            note=note,
            branch=asked.branch,
            pins=pins_of(self, asked.pins),
            bias=bias_of(self, asked.logit_bias),
            frames=frames,
            stops=stops_of(self, asked),
            id=id,
        )
        return checked(request, self.config, lambda: constraint_of(self, asked, constraint, config.eos_token_ids))

    def _decoding(self, options: dict[str, Any]) -> tuple[Decoding, str]:
        """How to decode, and why in this mode where that was left open."""
        config = self.generation.with_options(**options)
        if config.mode != "auto":
            return config, ""
        mode, why = self.auto.choose(config)
        return config.with_options(mode=mode), why

    @overload
    def generate(
        self, prompt: PromptLike | Prompt, *, max_batch: int = 8, **options: Unpack[GenerateOptions]
    ) -> Result: ...

    @overload
    def generate(self, prompt: Prompts, *, max_batch: int = 8, **options: Unpack[BatchOptions]) -> list[Result]: ...

    def generate(
        self, prompt: PromptLike | Prompt | Prompts, *, max_batch: int = 8, **options: Any
    ) -> Result | list[Result]:
        """Generate from one prompt -> `Result`, or from a list of prompts -> list of `Result`.

        A prompt is a text (one user message), a list of message dicts, or token ids. `options` are those of
        `Decoding.of` (`seed`, `max_new_tokens`, `steps`, `temperature`, `mode`, `sampler`, …), the fields of
        `RequestOptions` (`json_schema`, `tools`, `think`, …) and `trace`; for a list of prompts each may be a list with
        one value per prompt. A request gives the same text alone or in any batch. Raises `InputError`.
        """
        check_prompt(prompt)
        check_arguments(max_batch=max_batch)
        several, options = is_batch(prompt), by_name(options)
        prompts = cast("Sequence[PromptLike | Prompt]", prompt if several else [prompt])
        requests = [self.request(one, id=i, **options_of(options, i, len(prompts))) for i, one in enumerate(prompts)]
        results = Engine(self.network, self.tokenizer, max_batch).results(requests)
        for result in results:
            self.auto.saw(result, alone=len(results) == 1)
        told = [replace(result, token_texts=self._texts(result.tokens)) for result in results]
        return told if several else told[0]

    def _texts(self, tokens: Sequence[int]) -> tuple[str, ...]:
        return () if self.tokenizer is None else tuple(decode([token], self.tokenizer) for token in tokens)

    async def agenerate(self, prompt: PromptLike | Prompt | Prompts, **options: Any) -> Any:
        """`generate`, without keeping the event loop from its work."""
        return await asyncio.to_thread(lambda: self.generate(cast(Any, prompt), **options))

    def astream(self, prompt: PromptLike | Prompt, **options: Unpack[StreamOptions]) -> AsyncIterator[Event]:
        """`stream`, for `async for`."""
        return events_in_thread(lambda: self.stream(prompt, **options))

    def stream(self, prompt: PromptLike | Prompt, **options: Unpack[StreamOptions]) -> Iterator[Event]:
        """Generate from one prompt, yielding `CanvasStep`, `CanvasCommitted`, `TextDelta`, last `Finished`.

        Every step is taken to be shown: under a constraint its argmax matches. `frames=False` saves the time for that.
        """
        chosen: dict[str, Any] = {"frames": True, **options}
        request = self.request(prompt, **chosen)
        engine = Engine(self.network, self.tokenizer, 1)
        for event in engine.run([request]):
            if isinstance(event, Finished):
                self.auto.saw(event.result, alone=True)
            yield event

    def chat(self, system: str | None = None, **options: Unpack[GenerateOptions]) -> Session:
        """A conversation that keeps its cache: each turn encodes only what is new."""
        from diffusiongemma.engine.session import Session

        return Session(self, system, options)

    # Texts that exist. `options` are those that shape decoding: `seed`, `steps`,
    # `temperature`, … Each method has a twin `…_plan`, which runs nothing: it checks its arguments and gives a plan
    # (`plans.plan`), for whoever has an engine of their own.

    def infill(
        self,
        prefix: str,
        suffix: str = "",
        *,
        instruction: str | None = None,
        length: Length = "auto",
        **options: Unpack[DecodingOptions],
    ) -> InfillResult:
        """Write what goes between two texts, which stay as they are, character by character.

        `length` is a number of tokens, a range (least, most), or "auto": then the model chooses. An `instruction` says
        what to write. Raises `InputError`.
        """
        check_arguments(prefix=prefix, suffix=suffix)
        return self._run(self.infill_plan([prefix, suffix], instruction=instruction, length=length, **options))

    def infill_text(
        self,
        text: str,
        hole: str = HOLE,
        *,
        instruction: str | None = None,
        length: Length = "auto",
        **options: Unpack[DecodingOptions],
    ) -> InfillResult:
        """`infill` for a text with one or more holes in it, marked by `hole`. Raises `InputError`, also where the
        marker is missing or stands twice in a row."""
        check_arguments(text=text, hole=hole)
        texts = split_at(text, hole)
        return self._run(self.infill_plan(texts, instruction=instruction, length=length, **options))

    def infill_plan(
        self,
        texts: Sequence[str],
        *,
        instruction: str | None = None,
        length: Length = "auto",
        **options: Unpack[DecodingOptions],
    ) -> Plan[InfillResult]:
        """`infill` of the holes between `texts`, as a plan."""
        check_arguments(texts=texts, instruction=instruction)
        return infill_plan(self._plan_context(options), texts, instruction, length)

    def edit(
        self,
        text: str,
        instruction: str | None = None,
        *,
        spans: Sequence[Span] | None = None,
        strength: float = STRENGTH,
        **options: Unpack[DecodingOptions],
    ) -> EditResult:
        """Change a text, starting from the text itself at the noise level `strength`: 0 changes nothing, 1 all.

        `spans` (from, to: characters) are the only places that may change; without, all of it may, its length too, and
        with an instruction the encoder checks what is made of it as it does an answer (`verify`). Raises
        `InputError`.
        """
        return self._run(self.edit_plan(text, instruction, spans=spans, strength=strength, **options))

    def edit_plan(
        self,
        text: str,
        instruction: str | None = None,
        *,
        spans: Sequence[Span] | None = None,
        strength: float = STRENGTH,
        **options: Unpack[DecodingOptions],
    ) -> Plan[EditResult]:
        """`edit`, as a plan."""
        check_arguments(text=text, instruction=instruction)
        # The entropy bound would renoise all that is not quite certain, however low the noise level: the text would be
        # gone after one step. The exact reverse step keeps what the level says.
        options["sampler"] = options.get("sampler") or Ancestral()
        checks = instruction is not None and spans is None
        return edit_plan(self._plan_context(options, checks), text, instruction, spans, strength)

    def decide(
        self,
        state: Any,
        questions: Mapping[str, Mapping[str, Any]],
        *,
        steps: int = 1,
        samples: int = 1,
        seed: int | None = 0,
        images: Sequence[Any] = (),
        think: bool = False,
    ) -> Decision:
        """Answer typed questions about a state (a text, or anything that JSON can say) with probabilities.

        `questions` maps names to `{"type": "noul" | "choice" | "score", "instructions": …, "criteria": …}`: yes or no
        (criteria `{"true": …, "false": …}`, optional), one of a few labels (`{label: what it stands for}`), or a level
        (a list of 2 to 10 texts, the lowest first). Labels may have any number of tokens. The probabilities are exact
        for the canvas after `steps` (1 to 8) denoise steps, and not calibrated; with `samples` (1 to 32) they are the
        mean over so many canvases of noise. `images` are shown with the state; with `think` a thought comes
        first. Raises `InputError`.
        """
        options: dict[str, Any] = dict(steps=steps, samples=samples, seed=seed, images=images, think=think)
        return self._run(self.decide_plan(state, questions, **options))

    def decide_plan(
        self,
        state: Any,
        questions: Mapping[str, Mapping[str, Any]],
        *,
        steps: int = 1,
        samples: int = 1,
        seed: int | None = 0,
        images: Sequence[Any] = (),
        think: bool = False,
    ) -> Plan[Decision]:
        """`decide`, as a plan."""
        context = self._plan_context({"seed": seed})

        def prompt_of(said: Any) -> Prompt:
            return self.prompt([{"role": "user", "content": said}], think=think)

        options: dict[str, Any] = dict(steps=steps, samples=samples, images=images, think=think)
        return decide_plan(context, prompt_of, state, questions, **options)

    @cached_property
    def _text_tokens(self) -> TextTokens:
        return TextTokens(self.tokenizer, self.vocabulary, self.generation.eos_token_ids)

    def _plan_context(self, options: DecodingOptions, checks: bool = False) -> PlanContext:
        config = plan_config(self.generation, {**options}, checks)
        return PlanContext(self._text_tokens, self.network.config, config)

    def _run(self, plan: Plan[T]) -> T:
        # All requests of one turn of a plan in one batch: candidates are compared, so they had better run together.
        return drive(plan, lambda requests: Engine(self.network, self.tokenizer, len(requests)).results(requests))

    # Files.

    def save_pretrained(self, directory: str | Path, dtype: torch.dtype | None = None) -> None:
        """Write a directory that this package loads, and transformers if no weights are packed; tensors keep the dtype
        of their file, packed weights their layout.

        Raises `InputError` while the model has an unmerged adapter.
        """
        check_kind(directory, str | Path, "directory")
        check_kind(dtype, torch.dtype | None, "dtype")
        require_plain(self.network)
        require_whole(self.network)
        save_model(self.network, Path(directory), source=self.directory, dtype=dtype)


load = DiffusionGemma.from_pretrained


def _symbols(model: DiffusionGemma) -> Tensor | None:
    """The ids that its pictures are rounded to, where its settings name some that its vocabulary holds."""
    if not model.media.symbols or model.tokenizer is None:
        return None
    ids = [model.tokenizer.encode(one, add_special_tokens=False) for one in model.media.symbols]
    return torch.tensor(ids)[:, 0] if max(map(max, ids)) < model.config.vocab_size else None


def finished(events: Iterable[Event]) -> Result:
    """The result at the end of a stream."""
    return next(e.result for e in events if isinstance(e, Finished))
