"""`Model`: what the engine calls. Encode writes the cache, denoise reads it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from diffusiongemma.config import ModelConfig
from diffusiongemma.errors import InputError
from diffusiongemma.kernels.native import kernels_for_rows_alone, parted
from diffusiongemma.kernels.rows import MULTIPLE, filled
from diffusiongemma.model.attention import Denoise, Encode
from diffusiongemma.model.backbone import Backbone
from diffusiongemma.model.cache import KVCache, LayerCache, SequenceCache
from diffusiongemma.model.looks import looks_at

ENCODE_CHUNK = 1024  # tokens encoded at a time: bounds activations and masks on long prompts
Span = tuple[int, int]
_ONE_AT_A_TIME = threading.Lock()  # a server prepares several requests at once


class Model(nn.Module):
    """The text stack, and the vision tower from when it is first asked for: most requests are text alone, and the tower
    takes longer to import than a small model takes to answer. `make_vision` makes it, by default with random weights.
    """

    def __init__(self, config: ModelConfig, make_vision: Callable[[Model], nn.Module] | None = None):
        super().__init__()
        self.config = config
        self.backbone = Backbone(config)
        self.file_dtypes: dict[str, torch.dtype] = {}  # of the checkpoint it came from, for saving
        self.repacked: dict[str, str] = {}  # layout in the file of packed weights that are held in another
        self.make_vision = make_vision
        self.make_sequence: Callable[[list[LayerCache]], SequenceCache] = SequenceCache
        self.eight_bit_cache = False
        self.symbols: Tensor | None = None  # ids of the tokens that pictures are read as, of a model taught no others
        self.row_multiple = MULTIPLE  # batches are filled up to one, so that products round alike
        self.multiplies_packed = False  # some weights are multiplied as they are packed, by the CPU's kernels
        if config.vision_config is not None and make_vision is None:
            from diffusiongemma.model.vision import Vision

            self._modules["vision"] = Vision(config)

    @property
    def vision(self) -> nn.Module | None:
        """None where the model reads text only. Raises `CheckpointError` where its weights cannot be read."""
        with _ONE_AT_A_TIME:
            if "vision" not in self._modules and self.make_vision is not None and self.config.vision_config is not None:
                self._modules["vision"] = self.make_vision(self)
        return self._modules.get("vision")

    @property
    def device(self) -> torch.device:
        """Of what stands outside the layers, where token ids, embeddings and hidden states come in and go out."""
        return self.backbone.norm.weight.device  # type: ignore[union-attr]

    @property
    def dtype(self) -> torch.dtype:
        return self.backbone.norm.weight.dtype  # type: ignore[union-attr]

    def new_sequence(self) -> SequenceCache:
        return self.make_sequence(self.backbone.new_caches(self.eight_bit_cache))

    # Batches of equal shape: the public, tensor-level interface.

    def encode(self, ids: Tensor, cache: KVCache | None = None) -> KVCache:
        """Causal pass over ids [B, S], appended to `cache` if given (in place) -> the cache.

        Raises `InputError` for ids outside the vocabulary, a batch of another size, or a context that overflows.
        """
        ids = self._checked(ids)
        cache = KVCache(self.new_sequence() for _ in ids) if cache is None else cache
        if len(cache) != len(ids):
            raise InputError(f"ids have {len(ids)} rows, the cache {len(cache)}: use one row per sequence")
        for chunk in ids.split(ENCODE_CHUNK, dim=1):
            self.encode_rows(cache.rows, [self.backbone.embed(row) for row in chunk])
        return cache

    def denoise(self, canvas: Tensor, cache: KVCache, soft: Tensor | None = None) -> Tensor:
        """Bidirectional pass: canvas [B, C], soft [B, C, D] or None -> soft-capped float32 logits [B, C, V]."""
        canvas = self._checked(canvas)
        wanted = (*canvas.shape, self.config.hidden_size)
        if soft is not None and soft.shape != wanted:
            raise InputError(f"give {wanted}, what `soft_embedding` makes", option="soft", got=tuple(soft.shape))
        rows = list(soft) if soft is not None else [None] * len(canvas)
        hidden = self.denoise_rows(cache.rows, list(canvas), rows)
        return self.backbone.logits(hidden).view(*canvas.shape, -1)

    def soft_embedding(self, shaped_logits: Tensor) -> Tensor:
        """What the next step is conditioned on: temperature-shaped logits [B, C, V] -> [B, C, D]."""
        if shaped_logits.ndim < 1 or shaped_logits.shape[-1] != self.config.vocab_size:
            message = f"its last dimension is the vocabulary's {self.config.vocab_size:,}: give what `denoise` makes"
            raise InputError(message, option="shaped_logits", got=tuple(shaped_logits.shape))
        return self.backbone.soft_embedding(shaped_logits.softmax(-1, dtype=torch.float32))

    # Rows of any length, packed: what the engine uses.

    @torch.no_grad()
    def encode_rows(
        self, rows: Sequence[SequenceCache], embeddings: Sequence[Tensor], images: list[list[Span]] | None = None
    ) -> Tensor:
        """Encode embeddings [S_i, D] of each row behind what its cache holds -> last hidden states [sum S_i, D]."""
        widths = [len(x) for x in embeddings]
        for row, width in zip(rows, widths, strict=True):
            if row.length + width > self.config.max_position_embeddings:
                raise InputError(
                    f"the context would have {row.length + width:,} tokens, the model takes "
                    f"{self.config.max_position_embeddings:,}: shorten the prompt"
                )
        apart = self.multiplies_packed and kernels_for_rows_alone() is not None
        alone = [apart and width == 1 for width in widths]

        def states(own: list[int]) -> Sequence[Tensor]:
            spans = None if images is None else [images[i] for i in own]
            hidden = self._encode_together([rows[i] for i in own], [embeddings[i] for i in own], spans)
            return [hidden] if len(own) == 1 else hidden.split([widths[i] for i in own])

        return torch.cat(parted(alone, states))

    def _encode_together(
        self, rows: Sequence[SequenceCache], embeddings: Sequence[Tensor], images: list[list[Span]] | None
    ) -> Tensor:
        widths, fast = [len(x) for x in embeddings], self.backbone.fast
        if fast is not None and set(widths) == {1} and fast.takes(rows):
            return fast.encode_one(rows, embeddings)
        bidirectional = images if self.config.use_bidirectional_attention == "vision" else None
        context = Encode(list(rows), widths, self.config.sliding_window, bidirectional)
        x, positions = torch.cat(list(embeddings)), self.positions(rows, widths)
        encode = self.backbone.encode if fast is None else fast.encode
        hidden = encode(filled(x, self.row_multiple), positions, context)[: len(x)]
        context.finish()
        return hidden

    @torch.no_grad()
    def denoise_rows(
        self, rows: Sequence[SequenceCache], canvases: Sequence[Tensor], softs: Sequence[Tensor | None]
    ) -> Tensor:
        """One pass over canvases [C_i] with soft embeddings [C_i, D] or None -> hidden states [sum C_i, D]."""
        fast = self.backbone.fast
        if fast is not None and fast.takes(rows):
            return fast.denoise(rows, canvases, softs)
        widths = [len(canvas) for canvas in canvases]
        soft = None
        if any(s is not None for s in softs):
            zeros = [torch.zeros(w, self.config.hidden_size, dtype=self.dtype, device=self.device) for w in widths]
            soft = torch.cat([zero if s is None else s for s, zero in zip(softs, zeros, strict=True)])
        context = Denoise(list(rows), widths)
        tokens, positions = torch.cat(list(canvases)), self.positions(rows, widths)
        soft = None if soft is None else filled(soft, self.row_multiple)
        return self.backbone.denoise(filled(tokens, self.row_multiple), soft, positions, context)[: len(tokens)]

    @torch.no_grad()
    def image_features(self, pixels: Tensor, positions: Tensor) -> Tensor:
        """Soft tokens [M, D] of one image given as patches [P, 3 * patch²] at grid positions [P, 2]. Where they are
        rounded to symbols, the mean of several looks is."""
        vision = self.vision
        if vision is None:
            raise InputError("this model reads text only: leave the image out")
        positions = positions.to(self.device)
        if self.symbols is None:
            features: Tensor = vision(pixels[None].to(self.device), positions[None])
            return features
        looks = looks_at(pixels.to(self.device), positions)
        features = vision(looks, positions.expand(len(looks), -1, -1)).unflatten(0, (len(looks), -1)).mean(0)
        known = self.backbone.embed(self.symbols.to(self.device))
        return known[torch.cdist(features.float(), known.float()).argmin(-1)]

    def positions(self, rows: Sequence[SequenceCache], widths: list[int]) -> Tensor:
        """[N] of the new tokens behind what each cache holds, filled up as the batch is."""
        spans = [torch.arange(row.length, row.length + w) for row, w in zip(rows, widths, strict=True)]
        return filled(torch.cat(spans).to(self.device), self.row_multiple)

    def _checked(self, ids: Tensor) -> Tensor:
        if ids.ndim != 2 or ids.shape[1] == 0:
            raise InputError(f"token ids have shape {tuple(ids.shape)}: give [batch, length] with at least one token")
        if ids.is_floating_point():
            raise InputError(f"token ids have dtype {ids.dtype}: give integers")
        low, high = int(ids.min()), int(ids.max())
        if low < 0 or high >= self.config.vocab_size:
            raise InputError(
                f"token id {low if low < 0 else high} is outside the vocabulary of {self.config.vocab_size:,} tokens"
            )
        return ids.to(self.device, torch.long)
