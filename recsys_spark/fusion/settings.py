"""What a fusion is made of, as plain values that are stored with the model."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from recsys_spark.errors import UserError
from recsys_spark.fusion.normalise import Normaliser
from recsys_spark.fusion.trees import Trees
from recsys_spark.json_files import read_object

Repeats = Literal["allow", "drop"]
SETTINGS = "settings.json"
SEGMENTS = ("new", "light", "heavy")
"""Users with fewer events than `light`, fewer than `heavy`, and the others."""


@dataclass(frozen=True)
class Component:
    """A recommender's part in a fusion."""

    name: str
    weight: float
    normaliser: Normaliser


@dataclass(frozen=True)
class Segments:
    """Users by the number of events in their history, each segment with components of its own."""

    light: int
    heavy: int
    components: Mapping[str, tuple[Component, ...]]
    """Of those of SEGMENTS that have their own; the others take the fusion's."""


@dataclass(frozen=True)
class Cascade:
    """Who retrieves candidates over the whole catalogue; all components then score only those."""

    retrieve: tuple[str, ...]
    candidates: int
    """Best items, and best unseen items, of each retriever."""


@dataclass(frozen=True)
class Stack:
    """Candidates are the union of the components' best; trees rank them."""

    candidates: int
    """Best items, and best unseen items, of each component."""
    file: str
    """Name of the trees' own file beside the settings."""
    trees: Trees


@dataclass(frozen=True)
class FusionSettings:
    """The components that take part, each with a weight above 0."""

    method: str
    """average, weighted, single, cascade or stacked."""
    components: tuple[Component, ...]
    segments: Segments | None = None
    cascade: Cascade | None = None
    stack: Stack | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Every recommender that the fusion asks, each once."""
        groups = [self.components, *(self.segments.components.values() if self.segments else ())]
        listed = [component.name for group in groups for component in group]
        return tuple(dict.fromkeys([*listed, *(self.cascade.retrieve if self.cascade else ())]))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; of trees the name of their file."""
        content: dict[str, Any] = {"method": self.method, "components": _listed(self.components)}
        if self.segments is not None:
            own = {name: _listed(group) for name, group in self.segments.components.items()}
            content["segments"] = {"light": self.segments.light, "heavy": self.segments.heavy, "components": own}
        if self.cascade is not None:
            content["cascade"] = {"retrieve": list(self.cascade.retrieve), "candidates": self.cascade.candidates}
        if self.stack is not None:
            content["stack"] = {"candidates": self.stack.candidates, "trees": self.stack.file}
        return content

    @classmethod
    def from_json(cls, content: Mapping[str, Any], directory: Path | None = None) -> FusionSettings:
        """Read back what `to_json` wrote; the file of its trees is in `directory`.

        Raises UserError where that is missing.
        """
        segments, cascade, stack = (content.get(name) for name in ("segments", "cascade", "stack"))
        own = {name: _components(group) for name, group in segments["components"].items()} if segments else {}
        return cls(
            method=content["method"],
            components=_components(content["components"]),
            segments=Segments(segments["light"], segments["heavy"], own) if segments else None,
            cascade=Cascade(tuple(cascade["retrieve"]), cascade["candidates"]) if cascade else None,
            stack=Stack(stack["candidates"], stack["trees"], _trees(directory, stack["trees"])) if stack else None,
        )


def write_trees(directory: Path, settings: Iterable[FusionSettings]) -> tuple[str, ...]:
    """Write the files of the settings' trees; returns their names."""
    stacks = {setting.stack.file: setting.stack.trees for setting in settings if setting.stack is not None}
    for name, trees in stacks.items():
        (directory / name).write_text(trees.text, encoding="utf-8")
    return tuple(stacks)


def write_settings(directory: Path, settings: Mapping[Repeats, FusionSettings]) -> None:
    """Write the settings of each mode of repeats, with their trees, into a directory."""
    content = {repeats: setting.to_json() for repeats, setting in settings.items()}
    (directory / SETTINGS).write_text(json.dumps(content, indent=1), encoding="utf-8")
    write_trees(directory, settings.values())


def read_settings(directory: Path) -> dict[Repeats, FusionSettings]:
    """Read back what `write_settings` wrote."""
    content: dict[Any, Any] = read_object(directory / SETTINGS)
    return {repeats: FusionSettings.from_json(entry, directory) for repeats, entry in content.items()}


def _trees(directory: Path | None, name: str) -> Trees:
    try:
        assert directory is not None, "a stacked fusion is read from a directory"
        if Path(name).name != name:
            raise ValueError(f"{name} leads out of the directory")
        return Trees((directory / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise UserError(f"{directory}: {name} is missing or damaged; run jobs/evaluate_models.py again") from None


def segments_of(events_B: Tensor, light: int, heavy: int) -> Tensor:
    """[B] int64 place in SEGMENTS of users with so many events in their history."""
    return torch.bucketize(events_B, torch.tensor([light, heavy]), right=True)


def _listed(components: Sequence[Component]) -> list[dict[str, Any]]:
    return [
        {
            "name": component.name,
            "weight": component.weight,
            "normaliser": component.normaliser.method,
            "temperature": component.normaliser.temperature,
        }
        for component in components
    ]


def _components(entries: Sequence[Mapping[str, Any]]) -> tuple[Component, ...]:
    return tuple(
        Component(entry["name"], float(entry["weight"]), Normaliser(entry["normaliser"], entry["temperature"]))
        for entry in entries
    )


def average(names: Sequence[str]) -> FusionSettings:
    """Equal weights over z-scores."""
    return FusionSettings("average", tuple(Component(name, 1.0 / len(names), Normaliser("zscore")) for name in names))


def single(name: str) -> FusionSettings:
    """One recommender, its scores as they are."""
    return FusionSettings("single", (Component(name, 1.0, Normaliser("none")),))
