"""What follows from gates and people, and the way back through earlier champions."""

from __future__ import annotations

import pytest

from recsys_spark.errors import UserError
from recsys_spark.promotion.decisions import Champion, Pending, Request, State, decide, rolled_back_gate
from recsys_spark.promotion.gates import Gate

GOOD, BAD, SKIPPED = Gate("a", True, ""), Gate("b", False, ""), Gate("c", None, "")


def champion(number: int) -> Champion:
    return Champion(str(number), f"content-{number}", {"recsys-gru": str(10 * number)}, {"train_models": number})


@pytest.mark.parametrize(
    ("gates", "required", "request_", "action"),
    [
        ([GOOD, SKIPPED], False, Request(), "promoted"),
        ([GOOD, BAD], False, Request(), "refused"),
        ([GOOD], True, Request(), "waiting"),
        ([GOOD], True, Request(approve="Ann", comment="ok"), "promoted"),
        ([GOOD, BAD], True, Request(approve="Ann", comment="ok"), "refused"),
        ([GOOD], True, Request(reject="Ann", comment="no"), "rejected"),
        ([GOOD], False, Request(reject="Ann", comment="no"), "rejected"),
    ],
)
def test_a_person_comes_on_top_of_the_gates_and_does_not_replace_them(gates, required, request_, action) -> None:
    assert decide(gates, required, request_) == action


def promoted(*numbers: int, keep: int = 9) -> State:
    """Champions one after the other; number n published version 100 n of the lists last."""
    state = State()
    for number in numbers:
        state = state.promoted(champion(number), 100 * (number - 1) or None, keep)
    return state


def test_going_back_twice_goes_back_twice_and_no_further() -> None:
    state = promoted(1, 2, 3)
    once = state.back()
    assert (once.champions[0].version, once.champions[0].published) == ("2", 200)
    twice = once.back()
    assert (twice.champions[0].version, twice.champions[0].published) == ("1", 100)
    assert twice.rolled_back == ("content-3", "content-2")
    with pytest.raises(UserError, match="no earlier champion to go back to \\(recsys-fused/1 is the first\\)"):
        twice.back()


def test_what_was_rolled_back_returns_only_when_somebody_wants_it() -> None:
    state = promoted(1, 2).back()
    gate = rolled_back_gate("content-2", state, Request())
    assert gate is not None
    assert gate.passed is False
    wanted = rolled_back_gate("content-2", state, Request(approve="Ann", comment="fixed"))
    assert wanted is not None
    assert wanted.passed is True
    assert rolled_back_gate("content-9", state, Request()) is None
    assert state.promoted(champion(2), 1, 9).rolled_back == ()


def test_only_so_many_champions_are_kept() -> None:
    assert [entry.version for entry in promoted(1, 2, 3, 4, keep=2).champions] == ["4", "3", "2"]


def test_an_alias_that_was_moved_by_hand_is_taken_note_of() -> None:
    state = promoted(1, 2, 3)
    forward = state.found(champion(7), 300, 9)
    assert [(entry.version, entry.published) for entry in forward.champions[:2]] == [("7", None), ("3", 300)]
    back = state.found(champion(1), 300, 9)
    assert [(entry.version, entry.published) for entry in back.champions] == [("1", None)]


def test_the_state_survives_json() -> None:
    state = State(promoted(1, 2).champions, ("content-9",), Pending("key", (GOOD, SKIPPED)))
    assert State.from_json(state.to_json()) == state
    assert State.from_json(State().to_json()) == State()


def test_a_champion_without_published_lists_is_no_way_back() -> None:
    state = State((champion(2), champion(1)))
    with pytest.raises(UserError, match="champion recsys-fused/1 published no lists"):
        state.back()
