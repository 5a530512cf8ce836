"""Fits the neural recommenders: a launched training into a bundle."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from recsys_spark.config.recommenders import Neural
from recsys_spark.fitting.inputs import Facts, FitInputs
from recsys_spark.models.composed import ComposedModel
from recsys_spark.models.composition import Composition
from recsys_spark.recommenders.neural import NeuralRecommender
from recsys_spark.training.checkpoint import load_checkpoint
from recsys_spark.training.launch import find_gpu, launch
from recsys_spark.training.spec import TrainSpec


def fit(inputs: FitInputs) -> Facts:
    """Train `inputs.name` and write its bundle.

    The `select` fit stops early on valid NDCG@10 and says the best epoch; the other fits train exactly so many epochs.
    """
    spec = make_spec(inputs)
    result = launch(inputs.spark, spec, inputs.config.training.retries, inputs.progress, inputs.metric)
    recommender = load_trained(inputs.name, spec.composition, Path(result["checkpoint"]))
    recommender.save(inputs.output, inputs.vocabulary)
    shutil.rmtree(spec.work)
    return {name: value for name, value in result.items() if name != "checkpoint" and value is not None}


def make_spec(inputs: FitInputs) -> TrainSpec:
    """The training that the configuration asks for. Checkpoints stand beside the bundle."""
    settings: Neural = getattr(inputs.config.recommenders, inputs.name)
    dataset: dict[str, Any] = json.loads((inputs.dataset / "dataset.json").read_text(encoding="utf-8"))
    composition = Composition(
        user_encoder=settings.user_encoder,
        item_encoder=settings.item_encoder,
        scorer=settings.scorer,
        loss=settings.loss,
        dim=settings.dim,
        layers=settings.layers,
        dropout=settings.dropout,
        num_items=int(dataset["num_items"]),
        max_length=int(dataset["max_length"]),
    )
    processes = inputs.config.training.num_processes
    return TrainSpec(
        composition=composition,
        dataset=str(inputs.dataset.absolute()),
        dataset_version=str(dataset["version"]),
        work=str(inputs.output.absolute().with_name(f"{inputs.output.name}.training")),
        seed=inputs.config.seed,
        epochs=settings.epochs if inputs.fit == "select" else int(inputs.frozen["best_epoch"]),
        validate=inputs.fit == "select",
        patience=settings.patience,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        warmup_steps=settings.warmup_steps,
        grad_clip=settings.grad_clip,
        negatives=settings.negatives,
        negatives_power=settings.negatives_power,
        num_processes=processes,
        use_gpu=find_gpu(inputs.spark, processes),
    )


def load_trained(name: str, composition: Composition, checkpoint: Path) -> NeuralRecommender:
    """The recommender of a checkpoint."""
    loaded = load_checkpoint(checkpoint)
    if loaded is None:
        raise RuntimeError(f"checkpoint {checkpoint} is not readable on the driver")
    model = ComposedModel(composition)
    model.load_state_dict(loaded.part("model"))
    model.eval()
    return NeuralRecommender(name, composition, model.history_scorer())
