"""Our `gru` and `sasrec` by the project's own stages and training: run by bench/training/run.py.

The stages before train_models run, then the `select` fit of one recommender is launched as train_models launches it,
with the loss of --loss, in float32 and without early stop. A row holds `--length` + 1 events, so it reads and trains
`--length` positions; what a longer history has besides stands in further rows. There are lists of one epoch alone: that
of the best NDCG on the training's own valid users. Settings beyond size come from --set (as in
`--set training.precision=bf16`), else they are the project's defaults; result.json says what they came to.
"""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
import torch  # noqa: E402
import yaml  # noqa: E402

import recsys_spark  # noqa: E402
from bench.accuracy.beauty.prepare import write_events  # noqa: E402
from bench.training.data import Split, read_histories, split_last, top_items, write_lists  # noqa: E402
from bench.training.engine import Told, parser_of, tell  # noqa: E402
from recsys_spark.config import load_config  # noqa: E402
from recsys_spark.events.types import EVENT_TYPES  # noqa: E402
from recsys_spark.fitting.neural import load_trained, make_spec  # noqa: E402
from recsys_spark.pipeline.runner import Runner  # noqa: E402
from recsys_spark.pipeline.stage import Stage, StageContext, StageResult  # noqa: E402
from recsys_spark.pipeline.stages import STAGES  # noqa: E402
from recsys_spark.pipeline.train import fit_inputs  # noqa: E402
from recsys_spark.recommenders.base import Recommender  # noqa: E402
from recsys_spark.recommenders.batch import UserBatch  # noqa: E402
from recsys_spark.recommenders.vocabulary import Vocabulary  # noqa: E402
from recsys_spark.training.curve import CURVE  # noqa: E402
from recsys_spark.training.launch import launch  # noqa: E402

USER_BLOCK = 512


def main() -> int:
    parser = parser_of(__doc__, batch_size=128)
    parser.add_argument("--loss", choices=["full_softmax", "sampled_softmax"], default="full_softmax")
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="further settings")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    histories = read_histories(arguments.data)
    split = split_last(histories)
    write_events({user: histories[user] for user in split.train}, arguments.out / "events.csv")
    (arguments.out / "config.yaml").write_text(yaml.safe_dump(configuration(arguments)), encoding="utf-8")
    runner = Runner(load_config([str(arguments.out / "config.yaml")], arguments.overrides), "bench training", None)

    def train(context: StageContext) -> StageResult:
        inputs = fit_inputs(context, arguments.model, "select", {})
        spec = make_spec(inputs)
        result = launch(context.spark, spec, 0, inputs.progress, inputs.metric)
        points = [json.loads(line) for line in (Path(spec.work) / CURVE).read_text().splitlines()]
        positions = trained_positions(inputs.dataset / "sequences")
        epochs = [point for point in points if point["event"] == "epoch"]
        seconds = [positions / point["positions_per_second"] for point in epochs]
        recommender = load_trained(arguments.model, spec, Path(result["checkpoint"]))
        users, lists = valid_lists(recommender, Vocabulary.load(inputs.vocabulary), split)
        write_lists(arguments.out, int(result["best_epoch"]), users, lists)
        more = {"data_wait_share": result["data_wait_share"], "valid_ndcg_at_10": result["valid_ndcg_at_10"]}
        version = {"recsys-spark": getattr(recsys_spark, "__version__", "here")}
        settings = getattr(context.config.recommenders, arguments.model)
        told = Told(
            positions,
            seconds,
            settings.loss,
            version,
            context.config.training.precision,
            arguments.overrides,
            settings.model_dump(mode="json"),
            more,
        )
        tell(arguments, told, batch_size=settings.batch_size, dim=settings.dim, layers=settings.layers)
        return StageResult()

    try:
        for stage in itertools.takewhile(lambda stage: stage.name != "train_models", STAGES.values()):
            runner.run(stage, reuse=True)
        upstream = STAGES["train_models"].upstream
        runner.run(Stage(name="bench_training", upstream=upstream, config_keys=(), run=train))
    finally:
        runner.stop()
    return 0


def configuration(arguments: Any) -> dict[str, Any]:
    """The smallest configuration that trains the model on the file."""
    sizes = {"dim": arguments.dim, "layers": arguments.layers, "batch_size": arguments.batch_size}
    epochs = {"epochs": arguments.epochs, "patience": arguments.epochs}
    return {
        "workspace": str(arguments.out / "workspace"),
        "source": {
            "format": "csv",
            "path": str(arguments.out / "events.csv"),
            "options": {"header": "true"},
            "columns": {"user_id": "user", "item_id": "item", "event_time": "time"},
            "event_type": "purchase",
        },
        "split": {"strategy": "leave_one_out"},
        "datasets": {"max_length": arguments.length + 1},
        "evaluation": {"k": [10], "repeats": "drop", "cold": "miss"},
        "models": [arguments.model],
        "recommenders": {arguments.model: {**sizes, **epochs, "loss": arguments.loss}},
        "training": {"precision": "float32", "gpu": "required" if arguments.device == "cuda" else "off"},
        "spark": {"master": f"local[{arguments.threads}]", "driver_memory": "2g"},
        "seed": arguments.seed,
    }


def trained_positions(sequences: Path) -> int:
    """(History, next item) pairs of the rows: one less than each has events, as no two events share a time."""
    rows = pq.read_table(sequences, columns=["length", "row_weight"], partitioning=None)
    lengths, real = rows["length"].to_numpy(), rows["row_weight"].to_numpy() > 0
    return int((lengths[real] - 1).sum())


@torch.no_grad()
def valid_lists(recommender: Recommender, vocabulary: Vocabulary, split: Split) -> tuple[list[int], np.ndarray]:
    """Users and their lists [U, K] as the file numbers them."""
    numbers = np.array([int(item[1:]) for item in vocabulary.ids_of(np.arange(vocabulary.size)).to_pylist()])
    codes = np.full(int(max(numbers.max(), *split.valid.values())) + 1, -1)
    codes[numbers] = np.arange(vocabulary.size)
    users, lists = list(split.train), []
    for start in range(0, len(users), USER_BLOCK):
        seen = [split.train[user] for user in users[start : start + USER_BLOCK]]
        by_number = np.full((len(seen), codes.size - 1), -np.inf, dtype=np.float32)
        by_number[:, numbers - 1] = recommender.score(batch_of(seen, codes)).scores.float().numpy()
        lists.append(top_items(by_number, seen))
    return users, np.concatenate(lists)


def batch_of(seen: list[list[int]], codes: np.ndarray) -> UserBatch:
    """The histories as the scoring job would give them, an event an hour."""
    lengths = torch.tensor([len(items) for items in seen])
    events = int(lengths.sum())
    return UserBatch(
        items=torch.from_numpy(codes[np.concatenate(seen)]),
        event_types=torch.full((events,), EVENT_TYPES.index("purchase")),
        weights=torch.ones(events),
        ages=torch.cat([torch.arange(len(items), 0, -1) / 24 for items in seen]).float(),
        offsets=torch.cat((torch.zeros(1, dtype=torch.int64), lengths.cumsum(0))),
    )


if __name__ == "__main__":
    sys.exit(main())
