"""A network that starts from an earlier one: what it had stays bit for bit, what is new is as in a cold start."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from recsys_spark.errors import UserError
from recsys_spark.training.checkpoint import load_checkpoint
from recsys_spark.training.spec import TrainSpec
from recsys_spark.training.tensor_file import write_tensors
from recsys_spark.training.warm_start import ITEM_TABLES, USER_TABLES, grown, read_parameters, take_over
from recsys_spark.training.worker import build_model, train
from tests.unit.training.conftest import ITEMS

CPU = torch.device("cpu")
NEW = 3
"""Items that came: they are first in the alphabet, so that every old one's row moves."""
COUNTS = torch.arange(ITEMS + NEW)


def parameters(spec: TrainSpec) -> dict[str, torch.Tensor]:
    """Of the network as its training would begin, moved away from what any other begins with."""
    drawn = build_model(replace(spec, seed=99), COUNTS[: spec.composition.num_items], CPU).state_dict()
    return {name: value + 1 if value.is_floating_point() else value for name, value in drawn.items()}


def started(spec: TrainSpec, start: dict[str, torch.Tensor], path: Path) -> TrainSpec:
    return replace(spec, start=str(path), start_version=write_tensors(path, start))


@pytest.mark.parametrize("user", [{"user_encoder": "gru"}, {"user_encoder": "id", "num_users": 5}])
def test_old_rows_keep_their_values_and_new_ones_are_those_of_a_cold_start(
    make_spec: Callable[..., TrainSpec], tmp_path: Path, user: dict[str, object]
) -> None:
    old, new = make_spec(**user), make_spec(num_items=ITEMS + NEW, **user)
    if "num_users" in user:
        new = replace(new, composition=replace(new.composition, num_users=9))
    had = parameters(old)
    moved = {name: torch.tensor([0, *range(NEW + 1, NEW + ITEMS + 1)]) for name in ITEM_TABLES if name in had}
    moved |= {name: torch.arange(6) for name in USER_TABLES if name in had}
    warm = build_model(started(new, grown(had, moved), tmp_path / "start"), COUNTS, CPU).state_dict()
    cold = build_model(new, COUNTS, CPU).state_dict()
    for name in ("item_encoder.weight", "item_bias.weight"):
        assert torch.equal(warm[name][NEW + 1 :], had[name][1:])
        assert torch.equal(warm[name][1 : NEW + 1], cold[name][1 : NEW + 1])
    for name in set(had) - set(moved):
        assert torch.equal(warm[name], had[name])
        assert not torch.equal(warm[name], cold[name])
    if "num_users" in user:
        assert torch.equal(warm["user_side.encoder.weight"][:6], had["user_side.encoder.weight"])
        assert torch.equal(warm["user_side.encoder.weight"][6:], cold["user_side.encoder.weight"][6:])


def test_an_item_that_is_gone_leaves_no_row() -> None:
    name, had = "item_bias.weight", torch.tensor([[0.0], [1.0], [2.0]])
    start = grown({name: had}, {name: torch.tensor([0, -1, 1])})
    model = torch.nn.Module()
    model.item_bias = torch.nn.Linear(1, 4, bias=False)
    take_over(model, start)
    assert model.item_bias.weight[:2, 0].tolist() == [0.0, 2.0]


def test_a_start_of_another_network_is_refused(make_spec: Callable[..., TrainSpec], tmp_path: Path) -> None:
    had = parameters(make_spec())
    wide = started(make_spec(dim=8), grown(had, {}), tmp_path / "wide")
    with pytest.raises(ValueError, match="has the shape"):
        build_model(wide, COUNTS[:ITEMS], CPU)
    more = started(make_spec(time_gaps=True), grown(had, {}), tmp_path / "more")
    with pytest.raises(ValueError, match="differ in"):
        build_model(more, COUNTS[:ITEMS], CPU)
    with pytest.raises(ValueError, match="25 rows, and 2 places"):
        grown(had, {"item_bias.weight": torch.arange(2)})


def test_a_changed_file_is_refused_in_one_line(tmp_path: Path) -> None:
    version = write_tensors(tmp_path / "start", {"whole.a": torch.zeros(3)})
    content = bytearray((tmp_path / "start").read_bytes())
    content[-1] ^= 1
    (tmp_path / "start").write_bytes(content)
    with pytest.raises(UserError, match="changed since they were written"):
        read_parameters(tmp_path / "start", version)
    with pytest.raises(UserError, match="cannot be read"):
        read_parameters(tmp_path / "nowhere", version)


def test_another_start_is_another_training_and_another_place_is_not(make_spec: Callable[..., TrainSpec]) -> None:
    spec = make_spec()
    assert replace(spec, start="a", start_version="b").fingerprint != spec.fingerprint
    assert replace(spec, start="elsewhere").fingerprint == spec.fingerprint


def test_a_trained_network_that_goes_on_is_ahead_of_one_that_begins(
    make_spec: Callable[..., TrainSpec], tmp_path: Path
) -> None:
    first = train(make_spec(epochs=6, work=str(tmp_path / "first")))
    checkpoint = load_checkpoint(Path(first["checkpoint"]))
    assert checkpoint is not None
    start = grown(checkpoint.part("model"), {})
    warm = started(make_spec(epochs=1, work=str(tmp_path / "warm")), start, tmp_path / "start")
    cold = train(make_spec(epochs=1, work=str(tmp_path / "cold")))
    assert train(warm)["loss"] < 0.5 * cold["loss"]
