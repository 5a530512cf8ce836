"""An item vector from the item's text as a language model reads it (Devlin et al. 2019): projected mean of subwords.

The language model is frozen, so what it makes of a text is computed once and kept. Where it has adapters (LoRA), a
bounded number of a step's texts go through it with gradient; the others are taken as they were when the epoch began,
and all are computed again when it ends. Which adapters the kept vectors belong to is part of the state (`kept_for`), so
a training that goes on within an epoch goes on with the same vectors.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys_spark.models.composition import Composition
from recsys_spark.models.content import Content
from recsys_spark.models.item_encoders.reading import Reading, distinct
from recsys_spark.models.language_model import LanguageModel, adapter_shapes


class BertItems(nn.Module):
    """The projection (a perceptron with one hidden layer) and the adapters: what is trained, saved and loaded.

    The vectors of a language model have much in common, which tells no texts apart: the projection sees them without
    their mean and at their mean spread, as these are when training begins.
    """

    mean: Tensor
    spread: Tensor
    kept_for: Tensor | None

    def __init__(self, composition: Composition) -> None:
        super().__init__()
        settings, dim = composition.bert, composition.dim
        assert settings is not None, "a language model is named by its settings"
        self.settings = settings
        self.register_buffer("mean", torch.empty(settings.width))
        self.register_buffer("spread", torch.empty(1))
        self.wide, self.narrow = nn.Linear(settings.width, 2 * dim), nn.Linear(2 * dim, dim)
        self.dropout = nn.Dropout(composition.dropout)
        shapes = adapter_shapes(settings)
        self._names = {name.replace(".", "/"): name for name in shapes}
        self.adapters = nn.ParameterDict(
            {key: nn.Parameter(torch.empty(shapes[name])) for key, name in self._names.items()}
        )
        size = sum(shape.numel() for shape in shapes.values())
        self.register_buffer("kept_for", torch.empty(size) if size else None)
        self._reading = Reading()
        self._kept: tuple[tuple[int, int], Tensor] | None = None
        self._language_model: LanguageModel | None = None

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Draw the projection so that vectors have length about one; adapters start as nothing added (B = 0)."""
        nn.init.zeros_(self.mean)
        nn.init.ones_(self.spread)
        for linear in (self.wide, self.narrow):
            nn.init.xavier_uniform_(linear.weight, generator=generator)
            nn.init.zeros_(linear.bias)
        with torch.no_grad():
            self.narrow.weight.mul_(1.0 / math.sqrt(self.narrow.out_features))
        for key, parameter in self.adapters.items():
            if _adds(key):
                nn.init.zeros_(parameter)
            else:
                nn.init.kaiming_uniform_(parameter, a=math.sqrt(5), generator=generator)
        self.end_epoch()

    def attach(self, content: Content) -> None:
        """Read this content from now on."""
        self._reading.attach(content)
        self._kept = None

    @torch.no_grad()
    def start_from_content(self, content: Content) -> None:
        """See the vectors of this content's texts at a mean of zero and a spread of one."""
        vectors_SH = self._pooled(content)
        self.mean.copy_(vectors_SH.mean(dim=0))
        self.spread.copy_((vectors_SH - self.mean).square().mean().sqrt().clamp(min=1e-6))

    @torch.no_grad()
    def end_epoch(self) -> None:
        """From now on texts are what the adapters, as they are, make of them."""
        if self.kept_for is not None:
            self.kept_for.copy_(torch.cat([parameter.flatten() for parameter in self.adapters.values()]))

    def forward(self, tokens_R: Tensor) -> Tensor:
        """Vectors [R, D] of distinct tokens."""
        content = self._reading.on(tokens_R.device)
        if content.subtexts_I is None or content.subwords_SW is None or content.lengths_S is None:
            raise RuntimeError("the language model reads subwords, and the content has none")
        texts_U, place_R = distinct(content.subtexts_I[tokens_R], content.subwords_SW.shape[0])
        pooled_UH = self._vectors(content)[texts_U]
        if self.training and len(self.adapters):
            # The empty text takes part, so there is always one, and a gradient on every process.
            chosen = torch.randperm(texts_U.numel())[: self.settings.lora_items].to(texts_U.device)
            rows = texts_U[chosen]
            own = {self._names[key]: parameter for key, parameter in self.adapters.items()}
            fresh = self._model(tokens_R.device).pooled(content.subwords_SW[rows], content.lengths_S[rows], own)
            pooled_UH = pooled_UH.index_copy(0, chosen, fresh)
        hidden = self.dropout(F.gelu(self.wide((pooled_UH - self.mean) / self.spread)))
        return F.embedding(place_R, self.narrow(hidden))

    def _vectors(self, content: Content) -> Tensor:
        """[S, H] what the language model makes of each text, with the adapters of `kept_for`; kept until they move."""
        version = (0, 0) if self.kept_for is None else (self.kept_for.data_ptr(), self.kept_for._version)
        if self._kept is None or self._kept[0] != version:
            self._kept = (version, self._pooled(content))
        return self._kept[1]

    def _pooled(self, content: Content) -> Tensor:
        own, start = {}, 0
        for key, parameter in self.adapters.items():
            assert self.kept_for is not None
            own[self._names[key]] = self.kept_for[start : start + parameter.numel()].view_as(parameter)
            start += parameter.numel()
        moved = any(bool(value.any()) for name, value in own.items() if _adds(name))
        if content.pooled_SH is not None and not moved:
            return content.pooled_SH
        assert content.subwords_SW is not None
        assert content.lengths_S is not None
        device = content.subwords_SW.device
        pooled_SH = torch.empty(content.subwords_SW.shape[0], self.settings.width, device=device)
        for rows, vectors in self._model(device).pooled_batches(content.subwords_SW, content.lengths_S, own):
            pooled_SH[rows] = vectors
        return pooled_SH

    def _model(self, device: torch.device) -> LanguageModel:
        if self._language_model is None:
            self._language_model = LanguageModel(self.settings)
        return self._language_model.to(device)


def _adds(name: str) -> bool:
    """Is it the second factor of an adapter's product, which is zero at first."""
    return "lora_B" in name
