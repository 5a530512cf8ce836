"""Does it pay to be up to date? A week of events, played in the order of time against a model that never saw it.

    python bench/replay.py --workspace WORKSPACE --out bench/results/replay.json

WORKSPACE is that of a pipeline run (`python jobs/run_pipeline.py --config conf/demo.yaml`). The model is that of its
reported metrics: parameters are of before the valid window, the fusion and its item columns of before the test window;
the week is the last one of the test window. A step is what a user bought at one moment; NDCG@10 is of its items, and
means are over steps. Lists come from

- `week`: the histories at the start of the week: a batch that is not run again;
- `frozen`: the nightly list: histories up to the last midnight;
- `updated`: the nightly batch, and histories that live events extend;
- `learned`: the same, and online learning from everything before the micro-batch that the step is in.

A list is made when the batch ends or at the user's newest event, whichever is later, as stream and service do it.
`--until-days 7` plays the week before: settings of online learning are chosen there.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from bench.replaying.intervals import compared, means  # noqa: E402
from bench.replaying.lists import MODES, Quality, qualities  # noqa: E402
from bench.replaying.steps import Shop, Steps, truncated, up_to_date  # noqa: E402
from recsys_spark.config.online_learning import OnlineLearning  # noqa: E402
from recsys_spark.fusion.model import FusedModel  # noqa: E402
from recsys_spark.online.learning import learn_codes, learners_of  # noqa: E402
from recsys_spark.online.overlay import Overlay  # noqa: E402
from recsys_spark.tables.workspace import Workspace  # noqa: E402

DAY = 86_400
K = 10
SEED = 20
BLOCK = 64
"""Histories that are scored at a time."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", required=True)
    parser.add_argument("--version", type=int, default=None, help="of evaluate_models; by default the newest")
    parser.add_argument("--days", type=int, default=7)
    parser.add_argument("--until-days", type=int, default=0, help="end so many days before the newest event")
    parser.add_argument("--users", type=int, default=None, help="measure the lists of only so many users, drawn")
    parser.add_argument("--ways", nargs="*", default=WAYS, choices=WAYS)
    parser.add_argument("--alone", nargs="*", default=None, help="recommenders to measure alone; by default who learn")
    parser.add_argument("--batch-minutes", type=int, default=60, help="length of a micro-batch of online learning")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of online.learning")
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    played = Replay.of(arguments)
    measured = played.measured(arguments.ways, arguments.batch_minutes * 60)
    for row in measured["comparisons"]:
        print(
            f"{row['list']:10} {row['repeats']:5} {row['way']:>12} {row['ndcg_at_10']:.4f}  {row['against']:>12} "
            f"{row['ndcg_at_10_against']:.4f}  {row['difference']:+.4f} ({row['low']:+.4f} to {row['high']:+.4f})"
            f"{'' if row['steps'] == 'all' else '  ' + row['steps']}"
        )
    print({name: value for name, value in measured.items() if name not in ("comparisons", "means")})
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    return 0


WAYS = ("week", "frozen", "updated", "learned")
AGAINST = (("updated", "frozen"), ("updated", "week"), ("learned", "updated"), ("learned", "frozen"))


@dataclass(frozen=True)
class Replay:
    """The model, the steps and the settings."""

    model: FusedModel
    steps: Steps
    """Those whose lists are measured."""
    every: Steps
    """Those that are learned from: of all users."""
    start: int
    alone: tuple[str, ...]
    settings: OnlineLearning

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> Replay:
        """What a workspace holds."""
        workspace = Workspace(arguments.workspace)
        evaluated = workspace.latest("evaluate_models")
        if arguments.version is not None:
            evaluated = workspace.version("evaluate_models", arguments.version)
        assert evaluated is not None, "the pipeline has run"
        built = workspace.version("build_datasets", evaluated.inputs["build_datasets"])
        model = FusedModel.load(evaluated.path("model-test"))
        shop = Shop.read(built.path("histories"), model.vocabulary, model.resources.target_types.numpy())
        end = int(built.facts["cut_times"]["publish"]) - arguments.until_days * DAY
        start = end - arguments.days * DAY
        if start < int(built.facts["cut_times"]["test"]):
            raise SystemExit("the week must lie in the test window")
        steps = shop.steps(start, end)
        values = {name: yaml.safe_load(value) for name, value in (text.split("=", 1) for text in arguments.set)}
        settings = OnlineLearning(**{"enabled": True, **values})
        alone = tuple(learners_of(model, settings)) if arguments.alone is None else tuple(arguments.alone)
        chosen = steps if arguments.users is None else steps.of_users(arguments.users, SEED)
        return cls(model, chosen, steps, start, alone, settings)

    def measured(self, ways: tuple[str, ...], batch_seconds: int) -> dict[str, Any]:
        """NDCG of each way of serving, and the comparisons."""
        began = time.monotonic()
        told: dict[str, Any] = {}
        plain = {way: self._asked(self.steps, way) for way in ways if way != "learned"}
        found = qualities(self.model, self.alone, self.steps, plain, K, BLOCK) if plain else {}
        if "learned" in ways:
            found["learned"], told = self.learned(batch_seconds)
        seconds = round(time.monotonic() - began, 1)
        changed = self._changed()
        return {
            "steps": self.steps.size,
            "users": len(np.unique(self.steps.users)),
            "steps_with_an_event_since_midnight": int(changed.sum()),
            "components": [*self.model.recommenders],
            "fusion": {mode: self.model.settings[mode].method for mode in MODES},
            "settings": self.settings.model_dump(mode="json"),
            "batch_seconds": batch_seconds,
            "learned": told,
            "seconds": seconds,
            "means": self._means(found),
            "comparisons": [*self._compared(found, None), *self._compared(found, changed)],
        }

    def learned(self, batch_seconds: int) -> tuple[Quality, dict[str, Any]]:
        """Micro-batch by micro-batch: its steps are served by what was learned before it, then it is learned from."""
        overlay, parts, rows = Overlay("replay"), [], []
        batch_S, spent = (self.steps.times - self.start) // batch_seconds, 0.0
        of_every = (self.every.times - self.start) // batch_seconds
        for batch in np.unique(of_every).tolist():
            inside = np.flatnonzero(batch_S == batch)
            if inside.size:
                steps = self.steps.of(inside)
                asked = {"learned": self._asked(steps, "updated")}
                parts.append(qualities(overlay.apply(self.model), self.alone, steps, asked, K, BLOCK)["learned"])
                rows.append(inside)
            began = time.monotonic()
            examples = self.every.of(of_every == batch).learned()
            overlay = learn_codes(self.model, overlay, *examples, batch, self.settings, SEED)
            spent += time.monotonic() - began
        order = np.argsort(np.concatenate(rows))
        found = {name: np.concatenate([part[name] for part in parts])[order] for name in parts[0]}
        told = {
            "batches": overlay.version,
            "events": int(overlay.reservoir.seen),
            "rows": len(overlay.codes),
            "bytes": len(overlay.to_bytes()),
            "learning_seconds": round(spent, 1),
            "changed": {name: _moved(rows.biases, rows.vectors) for name, rows in overlay.rows.items()},
        }
        return found, told

    def _asked(self, steps: Steps, way: str) -> tuple[np.ndarray, np.ndarray]:
        """Where the histories of the steps end, and the moments at which their lists are made."""
        night = steps.times // DAY * DAY
        if way == "week":
            return truncated(steps, np.full(steps.size, self.start, dtype=np.int64))
        return up_to_date(steps, night) if way == "updated" else truncated(steps, night)

    def _changed(self) -> np.ndarray:
        """[S] had the user an event since the last midnight: elsewhere `updated` is `frozen`."""
        newest = self.steps.shop.times[self.steps.begins - 1]
        return newest >= self.steps.times // DAY * DAY

    def _means(self, found: Mapping[str, Quality]) -> list[dict[str, Any]]:
        return [
            {"way": way, "list": name, "repeats": mode, "ndcg_at_10": float(np.nanmean(value))}
            for way, qualities in found.items()
            for (name, mode), value in qualities.items()
        ]

    def _compared(self, found: Mapping[str, Quality], some: np.ndarray | None) -> list[dict[str, Any]]:
        chosen = np.ones(self.steps.size, dtype=bool) if some is None else some
        cut = {way: {name: value[chosen] for name, value in own.items()} for way, own in found.items()}
        made = means(cut, self.steps.users[chosen], SEED)
        told = {"steps": "all" if some is None else "after an event since midnight"}
        pairs = [pair for pair in AGAINST if set(pair) <= set(found)]
        return [{**row, **told} for way, against in pairs for row in compared(made, way, against)]


def _moved(biases: np.ndarray, vectors: np.ndarray) -> dict[str, float]:
    """Root mean squares of what was learned."""
    lengths = np.linalg.norm(vectors, axis=1) if vectors.size else np.zeros(1)
    return {"bias": float(np.sqrt((biases**2).mean())), "vector": float(np.sqrt((lengths**2).mean()))}


if __name__ == "__main__":
    sys.exit(main())
