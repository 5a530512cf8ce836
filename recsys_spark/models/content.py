"""What item encoders read of items besides their ids: codes, words and subwords, by token row.

Legend: I items (row 0 is the padding), T distinct texts as words, S distinct texts as subwords (row 0 of both is the
empty text), W words or subwords of the longest text, E width of word vectors, H width of a language model. Many items
of a catalogue have the same text, so texts stand once, and each is encoded once.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from recsys_spark.errors import UserError


@dataclass(frozen=True, kw_only=True)
class ContentSizes:
    """How much there is to tell apart: what the tables of the encoders are made by."""

    categories: int
    """Largest category code; 0 is unknown."""
    brands: int
    """Largest brand code; 0 is unknown."""
    price_bands: int
    """Largest price band; 0 is unknown."""
    vocabulary: int
    """Word tokens, padding 0 and unknown 1 among them."""
    word_dim: int
    """Width E of word vectors."""
    filters: int = 64
    """Filters of each width of the convolution over words."""


@dataclass(frozen=True, kw_only=True)
class BertSettings:
    """A language model on disk, and what of it is trained."""

    path: str
    """A Hugging Face directory with config.json and safetensors weights."""
    sha256: str
    """Of its configuration and weights: another model of the same name is refused."""
    width: int
    """Width H of its vectors."""
    lora_rank: int = 0
    """Rank of the adapters in its attention; 0 trains none."""
    lora_items: int = 16
    """Texts of a step that go through it with gradient, where there are adapters."""


@dataclass(frozen=True)
class Content:
    """Content of items by token row (item code + 1)."""

    categories_I: Tensor
    """[I + 1] int64 codes, 0 unknown."""
    brands_I: Tensor
    """[I + 1] int64 codes, 0 unknown."""
    price_bands_I: Tensor
    """[I + 1] int64 bands, 0 unknown."""
    texts_I: Tensor
    """[I + 1] int64 rows of `words_TW`."""
    words_TW: Tensor
    """[T, W] int32 word tokens, padded behind with 0."""
    word_vectors: Tensor | None = None
    """[vocabulary, E] float32 vectors from which word embeddings may start, zeros where there is none."""
    subtexts_I: Tensor | None = None
    """[I + 1] int64 rows of `subwords_SW`, where items have subwords."""
    subwords_SW: Tensor | None = None
    """[S, W] int32 subwords, as the language model takes them."""
    lengths_S: Tensor | None = None
    """[S] int64 subwords of each text; the rest is padding."""
    pooled_SH: Tensor | None = None
    """[S, H] float32 what the language model, as it came, makes of each text."""
    item_vectors_I: Tensor | None = None
    """[I + 1, E'] float32 vectors from which the table by id may start, the strongest dimensions first; zeros where
    there is none."""

    @property
    def num_items(self) -> int:
        """Items I."""
        return int(self.categories_I.numel()) - 1

    def on(self, device: torch.device) -> Content:
        """The content on a device."""
        return replace(self, **{name: tensor.to(device) for name, tensor in self._tensors().items()})

    def save(self, path: Path) -> str:
        """Write into the file `path`, which is there whole or not at all; returns the version, a sha256 of it all."""
        tensors = {name: tensor.contiguous().cpu() for name, tensor in self._tensors().items()}
        version = _version(tensors)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            save_file(tensors, partial, metadata={"version": version})
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
        return version

    @classmethod
    def load(cls, path: Path) -> Content:
        """The content of a file, mapped from it. Raises UserError where it is missing or not as it was written."""
        try:
            with safe_open(path, framework="pt") as archive:
                written = (archive.metadata() or {}).get("version")
                tensors = {name: archive.get_tensor(name) for name in archive.keys()}  # noqa: SIM118 - not a dict
        except (OSError, SafetensorError) as error:
            raise UserError(f"content {path}: cannot be read ({error}); run train_models again") from None
        if _version(tensors) != written:
            raise UserError(f"content {path}: changed since it was written; run train_models again")
        return cls(**tensors)

    def _tensors(self) -> dict[str, Tensor]:
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: tensor for name, tensor in named.items() if tensor is not None}


def _version(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(memoryview(tensor.numpy()).cast("B") if tensor.numel() else b"")
    return digest.hexdigest()
