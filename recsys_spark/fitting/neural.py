"""Fits the neural recommenders: a launched training into a bundle."""

from __future__ import annotations

import json
import shutil
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys_spark.config.neural import Neural
from recsys_spark.config.section import Section
from recsys_spark.events.types import EVENT_TYPES
from recsys_spark.fitting.affinity import fit_affinity
from recsys_spark.fitting.content import FitContent, write_content
from recsys_spark.fitting.inputs import Facts, FitInputs
from recsys_spark.fitting.start import Started, first_fitting, write_start
from recsys_spark.fitting.trained import load_trained, trained_parameters
from recsys_spark.models.composition import Composition
from recsys_spark.models.content import Content
from recsys_spark.pipeline.keys import code_version
from recsys_spark.training.launch import launch
from recsys_spark.training.preflight import find_gpu
from recsys_spark.training.spec import TrainSpec
from recsys_spark.training.tensor_file import write_tensors

WARM_FROM = "warm_from"
"""The fact that names the model that a fit started from."""
PARAMETERS = "parameters.safetensors"
"""Beside the bundle of a publish fit: what a later training may start from."""


def fit(inputs: FitInputs) -> Facts:
    """Train `inputs.name` and write its bundle.

    The `select` fit stops early on valid NDCG@10 and says the best epoch; the other fits train exactly so many epochs.
    """
    spec, started = started_spec(inputs)
    result = launch(inputs.spark, spec, inputs.config.training.retries, inputs.progress, inputs.metric)
    recommender = load_trained(inputs.name, spec, Path(result["checkpoint"]))
    if spec.composition.affinity:
        assert spec.content is not None
        recommender = recommender.with_affinity(fit_affinity(inputs, recommender, Content.load(Path(spec.content))))
    recommender.save(inputs.output, inputs.vocabulary)
    if recommender.affinity is not None:
        result |= recommender.affinity.numbers()
    if started is not None:
        result |= {WARM_FROM: started.name, "known_items": started.known_items}
    if inputs.config.retraining.warm_start and inputs.fit == "publish":
        parameters = trained_parameters(Path(result["checkpoint"]))
        result["parameters_sha256"] = write_tensors(inputs.output.with_name(PARAMETERS), parameters)
    shutil.rmtree(spec.work)
    for path in (spec.content, spec.start):
        if path is not None:
            Path(path).unlink()
    return {name: value for name, value in result.items() if name != "checkpoint" and value is not None}


def started_spec(inputs: FitInputs) -> tuple[TrainSpec, Started | None]:
    """The training that the configuration asks for, from the first start that has its parts, if there is one.

    A fit that starts warm trains at most `retraining.warm_epochs`, over which its learning rate falls.
    """
    spec = make_spec(inputs)
    start = first_fitting(inputs.starts, spec.composition)
    if start is None:
        return spec, None
    features = inputs.described / "features" / inputs.fit if inputs.features is not None else None
    path = inputs.output.absolute().with_name(f"{inputs.output.name}.start.safetensors")
    started = write_start(start, spec.composition, inputs.vocabulary, features, path)
    epochs = min(spec.schedule_epochs, inputs.config.retraining.warm_epochs or spec.schedule_epochs)
    inputs.progress(f"starts from {started.name}, which knows {started.known_items} of {inputs.num_items} items")
    own = min(spec.epochs, epochs)
    warm = replace(spec, start=started.path, start_version=started.version, epochs=own, schedule_epochs=epochs)
    return replace(warm, work=work_directory(inputs, warm)), started


def make_spec(inputs: FitInputs) -> TrainSpec:
    """The training that the configuration asks for.

    The items' content stands beside the bundle, the checkpoints where the next run finds them if this one dies.
    """
    settings: Neural = getattr(inputs.config.recommenders, inputs.name)
    training = inputs.config.training
    dataset: dict[str, Any] = json.loads((inputs.dataset / "dataset.json").read_text(encoding="utf-8"))
    beside = inputs.output.absolute()
    content: FitContent | None = None
    described = settings.item_encoder != ("id",) or bool(settings.affinity)
    if described or settings.id_start == "histories":
        content = write_content(inputs, settings, beside.with_name(f"{beside.name}.content.safetensors"))
    composition = Composition(
        **_named_alike(settings, Composition),
        item_encoders=settings.item_encoder,
        content=content.sizes if content and described else None,
        bert=content.bert if content else None,
        num_items=int(dataset["num_items"]),
        num_users=_largest_user(inputs.dataset / "sequences") if settings.user_encoder == "id" else 0,
        max_length=int(dataset["max_length"]) - 1,  # a window holds the last target too
    )
    own = {
        "epochs": int(inputs.frozen.get("best_epoch", settings.epochs)),
        "schedule_epochs": settings.epochs,
        "validate": "best_epoch" not in inputs.frozen,
        "valid_repeats": inputs.config.fusion.repeats,
        "target_types": tuple(EVENT_TYPES.index(name) for name in inputs.config.evaluation.target_events),
        "use_gpu": find_gpu(inputs.spark, training.num_processes, training.gpu),
    }
    spec = TrainSpec(
        **{**_named_alike(settings, TrainSpec), **_named_alike(training, TrainSpec), **own},
        composition=composition,
        dataset=str(inputs.dataset.absolute()),
        dataset_version=str(dataset["version"]),
        content=content.path if content else None,
        content_version=content.version if content else "",
        code_version=code_version(),
        work="",
        seed=inputs.config.seed,
    )
    return replace(spec, work=work_directory(inputs, spec))


def work_directory(inputs: FitInputs, spec: TrainSpec) -> str:
    """Where the checkpoints stand: a folder named after all that the model depends on."""
    name = f"{inputs.name}-{inputs.fit}-{spec.fingerprint[:24]}"
    return str((inputs.scratch or inputs.output.absolute().parent).absolute() / name)


def _named_alike(section: Section, kind: type[Composition] | type[TrainSpec]) -> dict[str, Any]:
    """The settings of a section that the other side has by the same name."""
    names = {field.name for field in fields(kind)} & type(section).model_fields.keys()
    return {name: getattr(section, name) for name in sorted(names)}


def _largest_user(sequences: Path) -> int:
    """The largest user_index that is trained on."""
    columns = (pq.read_table(path, columns=["user_index"])["user_index"] for path in sequences.glob("*.parquet"))
    return max(pc.max(column).as_py() for column in columns)
