"""Decisions: what follows from gates and people, and which champions there were. Plain values, no reads and writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from recsys_spark.errors import UserError
from recsys_spark.promotion.gates import Gate, failed

Action = Literal["promoted", "refused", "waiting", "rejected", "rolled_back", "found", "unchanged"]
"""`found`: somebody moved the alias without this program; `unchanged`: the challenger is the champion already."""


@dataclass(frozen=True)
class Request:
    """What the job was asked for."""

    approve: str | None = None
    """Who approves."""
    reject: str | None = None
    """Who rejects."""
    comment: str = ""
    rollback: bool = False
    by: str = ""
    """Who rolls back, where that was said."""

    @property
    def person(self) -> str | None:
        """Who decided, if a person did."""
        return self.approve or self.reject or self.by or None


@dataclass(frozen=True)
class Champion:
    """A version of the fused model that is or was champion."""

    version: str
    """In the registry."""
    model_version: str
    """Hash of its content, as published rows name it."""
    components: Mapping[str, str] = field(default_factory=dict)
    """Registered model to version, of what it is made of."""
    pins: Mapping[str, int] = field(default_factory=dict)
    """Stage to version, of what it was made from."""
    published: int | None = None
    """Version of fuse_recommendations that it published last, once it was superseded."""


@dataclass(frozen=True)
class Pending:
    """A challenger that waits for a person."""

    key: str
    """Hash of what was compared."""
    gates: tuple[Gate, ...]


@dataclass(frozen=True)
class State:
    """What a decision needs to know of those before it; it stands in the newest commit's facts."""

    champions: tuple[Champion, ...] = ()
    """The standing one first, then those before it."""
    rolled_back: tuple[str, ...] = ()
    """Content hashes of champions that were rolled back."""
    pending: Pending | None = None

    @property
    def standing(self) -> Champion | None:
        """The champion that this program set last."""
        return self.champions[0] if self.champions else None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "champions": [asdict(champion) for champion in self.champions],
            "rolled_back": list(self.rolled_back),
            "pending": None
            if self.pending is None
            else {"key": self.pending.key, "gates": [gate.to_json() for gate in self.pending.gates]},
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> State:
        """Read back what `to_json` wrote."""
        pending = content.get("pending")
        return cls(
            champions=tuple(Champion(**entry) for entry in content.get("champions", ())),
            rolled_back=tuple(content.get("rolled_back", ())),
            pending=pending and Pending(pending["key"], tuple(Gate.from_json(gate) for gate in pending["gates"])),
        )

    def found(self, champion: Champion, published: int | None, keep: int) -> State:
        """With a champion that was made one elsewhere. Where it is an earlier one, those after it are gone."""
        for place, earlier in enumerate(self.champions):
            if earlier.version == champion.version:
                return replace(self, champions=(replace(earlier, published=None), *self.champions[place + 1 :]))
        return replace(self.promoted(champion, published, keep), rolled_back=self.rolled_back, pending=self.pending)

    def promoted(self, champion: Champion, published: int | None, keep: int) -> State:
        """With a new champion; `published` is what the one before it published last, `keep` how many stay behind it."""
        before = self.champions
        if before:
            before = (replace(before[0], published=published), *before[1:])
        others = tuple(name for name in self.rolled_back if name != champion.model_version)
        return State((champion, *before)[: keep + 1], others)

    def back(self) -> State:
        """With the champion before the standing one. Raises UserError where there is none, or its lists are unknown."""
        if len(self.champions) < 2:
            standing = f"recsys-fused/{self.standing.version} is the first" if self.standing else "there is none"
            raise UserError(f"--rollback: no earlier champion to go back to ({standing})")
        gone, target, *rest = self.champions
        if target.published is None:
            raise UserError(
                f"--rollback: champion recsys-fused/{target.version} published no lists that could be restored; "
                "move the alias by hand and run jobs/fuse_recommendations.py"
            )
        names = dict.fromkeys((*self.rolled_back, gone.model_version))
        return State((target, *rest), tuple(names))


def rolled_back_gate(model_version: str, state: State, request: Request) -> Gate | None:
    """A champion that was rolled back does not come back by itself: somebody must want it."""
    if model_version not in state.rolled_back:
        return None
    wanted = request.approve is not None
    return Gate(
        "not_rolled_back", wanted, "this content was champion and was rolled back; only --approve brings it back"
    )


def decide(gates: Sequence[Gate], approval_required: bool, request: Request) -> Action:
    """What becomes of the challenger. A person's approval comes on top of the gates and does not replace them."""
    if request.reject is not None:
        return "rejected"
    if failed(gates):
        return "refused"
    if approval_required and request.approve is None:
        return "waiting"
    return "promoted"
