"""The search over a recommender's settings: what is tried, how, and how often."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

from recsys_spark.config.recommenders import Recommenders
from recsys_spark.config.section import Positive, Section

Number = int | float


class Range(Section):
    """The values of one setting that are tried: `choices`, or everything from `low` to `high`.

    Whether whole numbers are drawn follows from the setting itself.
    """

    low: Number | None = None
    """The least value."""
    high: Number | None = None
    """The greatest value."""
    log: bool = False
    """Draw evenly on a logarithmic scale."""
    step: Number | None = None
    """Distance between values, counted from `low`."""
    choices: Annotated[tuple[Any, ...], Field(min_length=1)] | None = None
    """The values themselves."""

    @model_validator(mode="after")
    def _one_kind(self) -> Range:
        for value in (self.low, self.high, self.step, *(self.choices or ())):
            if not _finite(value):
                raise ValueError(f"{value} is not a finite number")
        bounds = self.low is not None and self.high is not None
        if self.choices is not None:
            if any(value is not None for value in (self.low, self.high, self.step)) or self.log:
                raise ValueError("give choices alone, or low and high")
            if any(value in self.choices[:place] for place, value in enumerate(self.choices)):
                raise ValueError("choices must differ from each other")
            return self
        if not bounds:
            raise ValueError("give low and high, or choices")
        assert self.low is not None
        assert self.high is not None
        if self.low > self.high:
            raise ValueError(f"low ({self.low}) is above high ({self.high})")
        if self.log and self.low <= 0:
            raise ValueError(f"log needs a low above 0, not {self.low}")
        if self.log and self.step is not None:
            raise ValueError("give log or step, not both")
        if self.step is not None and self.step <= 0:
            raise ValueError(f"step must be above 0, not {self.step}")
        return self

    @property
    def ends(self) -> tuple[Any, ...]:
        """The choices, or the least and the greatest value."""
        return self.choices if self.choices is not None else tuple(dict.fromkeys((self.low, self.high)))


class Tuning(Section):
    """The search for a recommender's settings (jobs/tune_model.py), by NDCG@10 on the valid window."""

    sampler: Literal["grid", "random", "tpe"] = "tpe"
    """How settings are drawn: every combination in turn, at random, or where earlier trials were good (TPE)."""
    trials: Positive = 20
    """Trials of a study that are finished or pruned; a study that was stopped goes on to this number."""
    startup_trials: Positive = 5
    """Trials that are drawn at random before TPE learns from them, and finished before the median prunes."""
    pruner: Literal["none", "median", "halving"] = "median"
    """What stops a training early: nothing; a valid NDCG@10 below the median of finished trials at the same epoch;
    or not being among the best part of the trials at epochs that grow by `halving_factor` (successive halving)."""
    warmup_epochs: Positive = 1
    """A training is not stopped before it has gone through so many epochs."""
    halving_factor: Annotated[int, Field(ge=2)] = 3
    """One in so many trials goes on at each level of successive halving."""
    parallel: Positive | None = None
    """Neural trials that are trained at the same time, each by one Spark task, where training.num_processes is 1; by
    default one for each task slot. TPE and the pruners judge a batch of so many by the trials before it."""
    space: dict[str, dict[str, Range]] = {}
    """Recommender to setting to its range: `{gru: {dim: {choices: [32, 64]}, learning_rate: {low: 0.001, high: 0.05,
    log: true}, layers: {low: 1, high: 3}}}`; `step` spaces values, and a grid needs it for settings that are not whole
    numbers."""

    @model_validator(mode="after")
    def _settings_exist(self) -> Tuning:
        for name, ranges in self.space.items():
            if name not in Recommenders.model_fields:
                raise ValueError(f"space.{name}: no such recommender; known are {', '.join(Recommenders.model_fields)}")
            known = settings_fields(name)
            for setting, range_ in ranges.items():
                where = f"space.{name}.{setting}"
                if setting not in known:
                    raise ValueError(f"{where}: no such setting; known are {', '.join(known)}")
                _check_values(where, name, setting, range_)
                if self.sampler == "grid" and range_.choices is None and not range_.step and not whole(known[setting]):
                    raise ValueError(f"{where}: a grid needs choices, or a step between low and high")
        return self


def settings_of(name: str) -> type[Section]:
    """The section that holds a recommender's settings."""
    section = Recommenders.model_fields[name].annotation
    assert isinstance(section, type)
    assert issubclass(section, Section)
    return section


def settings_fields(name: str) -> Mapping[str, FieldInfo]:
    """The settings of a recommender, as its section declares them."""
    return settings_of(name).model_fields


def whole(field: FieldInfo) -> bool:
    """Is the setting a whole number."""
    return _numbers(field.annotation) == {int}


def _check_values(where: str, name: str, setting: str, range_: Range) -> None:
    """Raise ValueError where the setting cannot take one of the range's values, or is no number to have a range."""
    section = settings_of(name)
    numbers = _numbers(section.model_fields[setting].annotation)
    if range_.choices is None and not numbers:
        raise ValueError(f"{where}: is not a number; give choices")
    if range_.step is not None and numbers == {int} and range_.step != int(range_.step):
        raise ValueError(f"{where}: step must be a whole number, as the setting is, not {range_.step}")
    for value in range_.ends:
        try:
            section.model_validate({setting: value})
        except ValidationError as error:
            # What does not go together is for the whole configuration to say: other settings may be tried with it.
            own = [detail["msg"] for detail in error.errors() if detail["loc"][:1] == (setting,)]
            if own:
                message = own[0].removeprefix("Value error, ")
                raise ValueError(f"{where}: {value!r} is not possible ({message})") from None


def _finite(value: Any) -> bool:
    """Is a number finite, or each of a list."""
    if isinstance(value, list | tuple):
        return all(_finite(part) for part in value)
    return not isinstance(value, float) or math.isfinite(value)


def _numbers(annotation: Any) -> set[type]:
    """int, float or nothing: which numbers a type holds."""
    origin = get_origin(annotation)
    if origin in (Union, UnionType):
        return set(itertools.chain.from_iterable(_numbers(part) for part in get_args(annotation)))
    if origin is Annotated:
        return _numbers(get_args(annotation)[0])
    return {annotation} if annotation in (int, float) else set()
