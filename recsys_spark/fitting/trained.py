"""What a training left, as a recommender. Nothing here knows of Spark."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from recsys_spark.models.composed import ComposedModel
from recsys_spark.models.content import Content
from recsys_spark.models.item_encoders.combined import CombinedItems
from recsys_spark.recommenders.extended import kept_for_new_items
from recsys_spark.recommenders.neural import NeuralRecommender
from recsys_spark.training.checkpoint import load_checkpoint
from recsys_spark.training.spec import TrainSpec


def trained_parameters(checkpoint: Path) -> dict[str, Tensor]:
    """The parameters and buffers of a checkpoint, those that are averaged as their averages."""
    loaded = load_checkpoint(checkpoint)
    if loaded is None:
        raise RuntimeError(f"checkpoint {checkpoint} is not readable on the driver")
    averages = {name: value for name, value in loaded.part("averages").items() if name != "taken"}
    return {**loaded.part("model"), **averages}


def load_trained(name: str, spec: TrainSpec, checkpoint: Path) -> NeuralRecommender:
    """The recommender of a checkpoint."""
    model = ComposedModel(spec.composition)
    model.load_state_dict(trained_parameters(checkpoint))
    if spec.content is not None:
        model.attach(Content.load(Path(spec.content)))
    model.eval()
    scorer = model.history_scorer()
    encoder, kept = model.item_encoder, {}
    if isinstance(encoder, CombinedItems):
        kept = kept_for_new_items(encoder, scorer.biases_I)
    return NeuralRecommender(name, spec.composition, scorer, kept)
