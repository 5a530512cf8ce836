"""What a fusion is made of, as plain values that are stored with the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from recsys_spark.fusion.normalise import Normaliser

Repeats = Literal["allow", "drop"]


@dataclass(frozen=True)
class Component:
    """A recommender's part in a fusion."""

    name: str
    weight: float
    normaliser: Normaliser


@dataclass(frozen=True)
class FusionSettings:
    """The components that take part, each with a weight above 0."""

    method: str
    components: tuple[Component, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "method": self.method,
            "components": [
                {
                    "name": component.name,
                    "weight": component.weight,
                    "normaliser": component.normaliser.method,
                    "temperature": component.normaliser.temperature,
                }
                for component in self.components
            ],
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> FusionSettings:
        """Read back what `to_json` wrote."""
        return cls(
            method=content["method"],
            components=tuple(
                Component(entry["name"], float(entry["weight"]), Normaliser(entry["normaliser"], entry["temperature"]))
                for entry in content["components"]
            ),
        )


def average(names: Sequence[str]) -> FusionSettings:
    """Equal weights over z-scores."""
    return FusionSettings("average", tuple(Component(name, 1.0 / len(names), Normaliser("zscore")) for name in names))


def single(name: str) -> FusionSettings:
    """One recommender, its scores as they are."""
    return FusionSettings("single", (Component(name, 1.0, Normaliser("none")),))
