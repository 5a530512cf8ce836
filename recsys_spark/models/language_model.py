"""A language model of a Hugging Face directory, frozen, as a function from subwords to vectors.

Nothing is fetched: the directory holds config.json and safetensors weights. Its weights are no part of any model's
state; what is trained are adapters (LoRA, Hu et al. 2021, by peft), which are given to each call.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from recsys_spark.errors import UserError
from recsys_spark.models.content import BertSettings

BATCH = 64
"""Texts that go through the model at once where no gradient is asked for."""


class LanguageModel:
    """The mean of a language model's last states over a text's subwords."""

    def __init__(self, settings: BertSettings) -> None:
        """Load the weights. Raises UserError where the directory is not the one that the settings were made from."""
        if directory_sha256(Path(settings.path)) != settings.sha256:
            raise UserError(f"features.tokenizer {settings.path}: another model than was trained with; restore it")
        transformers = _transformers()
        base = transformers.AutoModel.from_pretrained(settings.path, local_files_only=True, use_safetensors=True)
        self._module = _with_adapters(base, settings).float().eval().requires_grad_(False)

    def to(self, device: torch.device) -> LanguageModel:
        """Move the weights."""
        self._module.to(device)
        return self

    def pooled(self, subwords_BW: Tensor, lengths_B: Tensor, adapters: Mapping[str, Tensor]) -> Tensor:
        """Vectors [B, H] of texts, with the adapters' parameters by name where the settings have some."""
        width = int(lengths_B.max())
        mask_BW = torch.arange(width, device=lengths_B.device) < lengths_B[:, None]
        inputs = {"input_ids": subwords_BW[:, :width].to(torch.int64), "attention_mask": mask_BW.to(torch.int64)}
        states_BWH = torch.func.functional_call(self._module, dict(adapters), (), inputs).last_hidden_state
        return (states_BWH * mask_BW[:, :, None]).sum(dim=1) / lengths_B[:, None]

    @torch.no_grad()
    def pooled_batches(
        self, subwords_SW: Tensor, lengths_S: Tensor, adapters: Mapping[str, Tensor]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Rows [b] and vectors [b, H] of texts, in batches of similar length."""
        for rows in lengths_S.argsort(stable=True).split(BATCH):
            yield rows, self.pooled(subwords_SW[rows], lengths_S[rows], adapters)


def adapter_shapes(settings: BertSettings) -> dict[str, torch.Size]:
    """Name and shape of each of the adapters' parameters, in order; none where the rank is 0."""
    if not settings.lora_rank:
        return {}
    transformers = _transformers()
    with torch.device("meta"):
        config = transformers.AutoConfig.from_pretrained(settings.path, local_files_only=True)
        module = _with_adapters(transformers.AutoModel.from_config(config), settings)
    return {name: parameter.shape for name, parameter in module.named_parameters() if parameter.requires_grad}


def read_directory(path: str) -> dict[str, Any]:
    """The model's config.json.

    Raises UserError in one sentence where the model cannot be used here.
    """
    _transformers()
    try:
        config: dict[str, Any] = json.loads((Path(path) / "config.json").read_text("utf-8"))
        int(config["vocab_size"])
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"features.tokenizer {path}: has no config.json of a language model; name its folder") from None
    if not _weights(Path(path)):
        raise UserError(
            f"features.tokenizer {path}: has no *.safetensors weights, and others are not read; convert them"
        )
    return config


def directory_sha256(path: Path) -> str:
    """One sha256 over the configuration and the weights."""
    digest = hashlib.sha256()
    for file in (path / "config.json", *_weights(path)):
        try:
            with file.open("rb") as opened:
                digest.update(f"{file.name} {hashlib.file_digest(opened, 'sha256').hexdigest()}\n".encode())
        except OSError:
            raise UserError(f"features.tokenizer {path}: {file.name} cannot be read; restore the model") from None
    return digest.hexdigest()


def _weights(path: Path) -> list[Path]:
    return sorted(path.glob("*.safetensors"))


def _with_adapters(base: nn.Module, settings: BertSettings) -> nn.Module:
    if not settings.lora_rank:
        return base
    try:
        import peft
    except ImportError:
        raise UserError("recommenders.bert.lora_rank needs peft: pip install 'recsys-spark[text]'") from None
    try:
        # peft knows which projections of attention each architecture's adapters belong to.
        config = peft.LoraConfig(r=settings.lora_rank, lora_alpha=2 * settings.lora_rank, lora_dropout=0.0)
        adapted: nn.Module = peft.get_peft_model(base, config)
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"recommenders.bert.lora_rank: peft cannot adapt {settings.path} ({reason}); set it to 0"
        ) from None
    return adapted


def _transformers() -> Any:
    try:
        import transformers
    except ImportError:
        raise UserError("models: bert needs transformers: pip install 'recsys-spark[text]'") from None
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers
