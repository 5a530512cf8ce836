"""The space of settings that a study searches, checked as a whole before anything is started."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from pydantic import ValidationError

from recsys_spark.config import Config
from recsys_spark.config.loading import one_line
from recsys_spark.config.recommenders import Recommenders
from recsys_spark.config.tuning import Range, settings_fields, whole
from recsys_spark.errors import UserError

MOST_CORNERS = 512
"""Combinations of choices and ends of ranges that are tried on the configuration before the search starts."""
MOST_POINTS = 100_000
"""Combinations of a grid."""
ON_THE_STEP = 1e-9
"""Share of a step by which a range may miss its end."""


@dataclass(frozen=True)
class Space:
    """The ranges of a recommender's settings."""

    name: str
    """The recommender."""
    ranges: Mapping[str, Range]
    """Setting to its range, in the order of the configuration."""

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """The ranges as Optuna has them. Choices that are no plain values stand there as JSON."""
        fields = settings_fields(self.name)
        return {setting: _distribution(range_, whole(fields[setting])) for setting, range_ in self.ranges.items()}

    def values(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Settings of Optuna's parameters."""
        return {setting: _plain(range_, params[setting]) for setting, range_ in self.ranges.items()}

    def grid(self) -> list[dict[str, Any]]:
        """Every combination as Optuna's parameters; the last setting changes fastest."""
        fields = settings_fields(self.name)
        columns = [_points(range_, whole(fields[setting])) for setting, range_ in self.ranges.items()]
        return [dict(zip(self.ranges, point, strict=True)) for point in itertools.product(*columns)]

    def corners(self) -> Iterator[dict[str, Any]]:
        """Every combination of choices and ends of ranges; where these are many, each value beside the first others."""
        ends = {setting: range_.ends for setting, range_ in self.ranges.items()}
        if math.prod(len(values) for values in ends.values()) <= MOST_CORNERS:
            yield from (dict(zip(ends, point, strict=True)) for point in itertools.product(*ends.values()))
            return
        first = {setting: values[0] for setting, values in ends.items()}
        yield from (first | {setting: value} for setting, values in ends.items() for value in values)


def space_of(config: Config, name: str) -> Space:
    """The space that the configuration gives for a recommender, every corner of which makes a configuration.

    Raises UserError where there is no such recommender, no space for it, or one with impossible values in it.
    """
    if name not in Recommenders.model_fields:
        raise UserError(f"--model {name}: no such recommender; known are {', '.join(Recommenders.model_fields)}")
    ranges = config.tuning.space.get(name)
    if not ranges:
        raise UserError(
            f"tuning.space.{name}: there is nothing to search; give ranges, such as {_example(name)}, or see "
            "conf/tuning.yaml"
        )
    space = Space(name, ranges)
    for corner in space.corners():
        with_settings(config, name, corner, "tuning.space")
    if config.tuning.sampler == "grid":
        size = math.prod(len(_points(range_, whole(settings_fields(name)[key]))) for key, range_ in ranges.items())
        if size > MOST_POINTS:
            raise UserError(f"tuning.space.{name}: a grid of {size:,} combinations is too large; use sampler random")
    return space


def with_settings(config: Config, name: str, values: Mapping[str, Any], where: str = "recommenders") -> Config:
    """The configuration with other settings of a recommender. Raises UserError where they are impossible."""
    content = config.model_dump(mode="json")
    content["recommenders"][name] |= values
    try:
        return Config.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{where}.{name}: {told(values)} is not possible ({one_line(error)})") from None


def told(values: Mapping[str, Any]) -> str:
    """Settings on one line."""
    return ", ".join(f"{key} {f'{value:.4g}' if isinstance(value, float) else value}" for key, value in values.items())


def _example(name: str) -> str:
    for setting, field in settings_fields(name).items():
        if whole(field):
            return f"{setting}: {{choices: [{field.default}, {2 * field.default}]}}"
    setting, field = next(iter(settings_fields(name).items()))
    return f"{setting}: {{choices: [{json.dumps(field.default)}]}}"


def _distribution(range_: Range, whole_: bool) -> BaseDistribution:
    if range_.choices is not None:
        return CategoricalDistribution([_stored(value) for value in range_.choices])
    assert range_.low is not None
    assert range_.high is not None
    if whole_:
        return IntDistribution(int(range_.low), int(range_.high), log=range_.log, step=int(range_.step or 1))
    return FloatDistribution(float(range_.low), float(range_.high), log=range_.log, step=range_.step)


def _stored(value: Any) -> bool | int | float | str | None:
    return value if value is None or isinstance(value, bool | int | float | str) else json.dumps(value)


def _plain(range_: Range, param: Any) -> Any:
    if range_.choices is None:
        return param
    return next(value for value in range_.choices if _stored(value) == param and type(_stored(value)) is type(param))


def _points(range_: Range, whole_: bool) -> list[Any]:
    """The values of a grid along one setting."""
    if range_.choices is not None:
        return [_stored(value) for value in range_.choices]
    assert range_.low is not None
    assert range_.high is not None
    step = range_.step or 1
    number = math.floor((range_.high - range_.low) / step + ON_THE_STEP) + 1
    if whole_:
        return [int(range_.low + place * step) for place in range(number)]
    return [float(np.round(range_.low + place * step, 12)) for place in range(number)]
