"""From where a neural fit starts: an earlier champion's parameters, brought into the new fit's numbering.

Codes of items follow the alphabet and move when items come; what stays is an item's index (`build_features` never
changes one). Categories, brands and words are matched by name, users by their index, price bands by their number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from recsys_spark.features.fitted import FittedFeatures
from recsys_spark.features.text import FIRST_TOKEN
from recsys_spark.models.composition import Composition
from recsys_spark.recommenders.bundle import VOCABULARY, read_bundle
from recsys_spark.recommenders.vocabulary import Vocabulary
from recsys_spark.training.tensor_file import write_tensors
from recsys_spark.training.warm_start import (
    CODE_TABLES,
    ITEM_TABLES,
    SAME,
    SAME_LANGUAGE_MODEL,
    SAME_SIZES,
    USER_TABLES,
    WORD_TABLE,
    grown,
    read_parameters,
)


@dataclass(frozen=True)
class Start:
    """A fitted network that another may start from."""

    name: str
    """The registered version that it is a part of, such as recsys-fused/3."""
    bundle: Path
    """Its bundle, for the composition and the items."""
    parameters: Path
    """File of all its parameters and buffers."""
    sha256: str
    """Of that file."""
    features: Path | None
    """Its fit's features, where it reads any."""


@dataclass(frozen=True)
class Started:
    """A start that was written for a fit."""

    name: str
    path: str
    version: str
    """sha256 of the file."""
    known_items: int
    """Items of the new fit that the start knows."""


def first_fitting(starts: Sequence[Start], composition: Composition) -> Start | None:
    """The first of the starts whose network has the parts and widths of the composition."""
    return next((start for start in starts if alike(_composition(start), composition)), None)


def alike(old: Composition, new: Composition) -> bool:
    """Can the parameters of one network start the other: they differ in numbers of items, users, codes, words alone."""
    pairs = ((old, new, SAME), (old.content, new.content, SAME_SIZES), (old.bert, new.bert, SAME_LANGUAGE_MODEL))
    return all(_values(one, names) == _values(other, names) for one, other, names in pairs)


def write_start(start: Start, composition: Composition, vocabulary: Path, features: Path | None, path: Path) -> Started:
    """Write the start of a fit: item-sized, all of it on the driver for a moment.

    `vocabulary` and `features` are the new fit's. Raises UserError where a file was changed or is gone.
    """
    parameters = read_parameters(start.parameters, start.sha256)
    items = moved_items(Vocabulary.load(start.bundle / VOCABULARY), Vocabulary.load(vocabulary))
    moved = dict.fromkeys(set(ITEM_TABLES) & parameters.keys(), items)
    for name in set(USER_TABLES) & parameters.keys():
        users = torch.arange(len(parameters[name]))
        moved[name] = torch.where(users <= composition.num_users, users, -1)
    if start.features is not None and features is not None:
        described = moved_codes(FittedFeatures.load(start.features), FittedFeatures.load(features))
        moved |= {name: places for name, places in described.items() if name in parameters}
    version = write_tensors(path, grown(parameters, moved))
    return Started(start.name, str(path.absolute()), version, int((items > 0).sum()))


def moved_items(old: Vocabulary, new: Vocabulary) -> Tensor:
    """[I + 1] the token of the new vocabulary of each token of the old one, -1 where it is gone; padding stays 0."""
    codes = torch.from_numpy(new.codes_of_indices(old.indices))
    return torch.cat((torch.zeros(1, dtype=torch.int64), torch.where(codes >= 0, codes + 1, -1)))


def moved_codes(old: FittedFeatures, new: FittedFeatures) -> dict[str, Tensor]:
    """The place of each row of the tables of categories, brands, price bands and words, -1 where it is gone."""
    bands = len(old.price_edges) + 2
    kept = torch.arange(bands) if bands == len(new.price_edges) + 2 else torch.tensor([0, *[-1] * (bands - 1)])
    category, brand, band = CODE_TABLES
    return {
        category: _by_name(old.categories.values, new.categories.values, 1),
        brand: _by_name(old.brands.values, new.brands.values, 1),
        band: kept,
        WORD_TABLE: _by_name(old.vocabulary.tokens, new.vocabulary.tokens, FIRST_TOKEN),
    }


def _values(parts: object | None, names: Sequence[str]) -> list[object] | None:
    return None if parts is None else [getattr(parts, name) for name in names]


def _by_name(old: Sequence[str], new: Sequence[str], first: int) -> Tensor:
    """Places of named rows, which begin behind `first` rows that stay where they are."""
    places = {name: place for place, name in enumerate(new, first)}
    return torch.tensor([*range(first), *(places.get(name, -1) for name in old)])


def _composition(start: Start) -> Composition:
    return Composition.from_dict(read_bundle(start.bundle).config["composition"])
