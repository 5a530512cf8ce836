"""Trains what ours.py prepared, without Spark or Java: run by bench/training/run.py with `--prepared`.

`--prepared` is a folder that ours.py left on another machine: the dataset, and the training's specification. The same
worker trains that train_models launches; ours.py shares what judges it. Needs petastorm.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the launch has it

import numpy as np  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
import torch  # noqa: E402

import recsys_spark  # noqa: E402
from bench.training.data import Split, read_histories, split_last, top_items, write_lists  # noqa: E402
from bench.training.engine import Told, parser_of, tell  # noqa: E402
from recsys_spark.events.types import EVENT_TYPES  # noqa: E402
from recsys_spark.fitting.trained import load_trained  # noqa: E402
from recsys_spark.models.composition import Composition  # noqa: E402
from recsys_spark.recommenders.base import Recommender  # noqa: E402
from recsys_spark.recommenders.batch import UserBatch  # noqa: E402
from recsys_spark.recommenders.vocabulary import Vocabulary  # noqa: E402
from recsys_spark.training.curve import CURVE  # noqa: E402
from recsys_spark.training.spec import TrainSpec  # noqa: E402
from recsys_spark.training.worker import train  # noqa: E402

USER_BLOCK = 512


@dataclass(frozen=True)
class Prepared:
    """What a training needs besides its dataset."""

    spec: TrainSpec
    recommender: dict[str, Any]
    """All settings of the recommender as they came out."""
    overrides: list[str]
    """What `--set` said."""

    def save(self, folder: Path) -> None:
        """Into prepared.json, beside the dataset. Raises SystemExit where a training reads more than the dataset."""
        if self.spec.content or self.spec.start:
            raise SystemExit("only trainings by ids alone, from a random start, can be taken elsewhere")
        (folder / "prepared.json").write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Prepared:
        """What `save` wrote; the dataset is that of the folder."""
        told = json.loads((folder / "prepared.json").read_text(encoding="utf-8"))
        fields = told["spec"] | {"composition": Composition.from_dict(told["spec"]["composition"])}
        fields |= {"dataset": str((folder / "dataset").absolute()), "target_types": tuple(fields["target_types"])}
        return cls(TrainSpec(**fields), told["recommender"], told["overrides"])


def main() -> int:
    parser = our_parser(__doc__)
    parser.add_argument("--prepared", type=Path, required=True, help="a folder that ours.py prepared")
    arguments = parser.parse_args()
    prepared = Prepared.load(arguments.prepared)
    own = prepared.recommender
    made = {"dim": own["dim"], "layers": own["layers"], "loss": own["loss"], "seed": prepared.spec.seed}
    for name, value in {**made, "length": prepared.spec.composition.max_length}.items():
        if getattr(arguments, name) != value:
            parser.error(f"--{name} {getattr(arguments, name)}: {arguments.prepared} was prepared with {value}")
    spec = replace(
        prepared.spec,
        work=str((arguments.out / "work").absolute()),
        epochs=arguments.epochs,
        patience=arguments.epochs,
        batch_size=arguments.batch_size,
        precision=arguments.precision,
        use_gpu=arguments.device == "cuda",
        threads=arguments.threads,
    )
    settings = own | {"batch_size": arguments.batch_size, "epochs": arguments.epochs}
    Path(spec.work).mkdir(parents=True)
    conclude(arguments, replace(prepared, spec=spec, recommender=settings), train(spec))
    return 0


def our_parser(description: str | None) -> argparse.ArgumentParser:
    """The arguments that both scripts of ours take."""
    parser = parser_of(description, batch_size=128)
    parser.add_argument("--loss", choices=["full_softmax", "sampled_softmax"], default="full_softmax")
    parser.add_argument("--precision", choices=["float32", "bf16"], default="float32")
    return parser


def conclude(arguments: Any, prepared: Prepared, result: dict[str, Any]) -> None:
    """Make the lists of the epoch that the training kept, and tell what was measured."""
    spec = prepared.spec
    points = [json.loads(line) for line in (Path(spec.work) / CURVE).read_text().splitlines()]
    positions = trained_positions(Path(spec.dataset) / "sequences")
    seconds = [positions / point["positions_per_second"] for point in points if point["event"] == "epoch"]
    recommender = load_trained(arguments.model, spec, Path(result["checkpoint"]))
    vocabulary = Vocabulary.load(Path(spec.dataset) / "vocabulary.parquet")
    users, lists = valid_lists(recommender, vocabulary, split_last(read_histories(arguments.data)))
    write_lists(arguments.out, int(result["best_epoch"]), users, lists)
    more = {"data_wait_share": result["data_wait_share"], "valid_ndcg_at_10": result["valid_ndcg_at_10"]}
    version = {"recsys-spark": getattr(recsys_spark, "__version__", "here")}
    settings = prepared.recommender
    told = Told(positions, seconds, settings["loss"], version, spec.precision, prepared.overrides, settings, more)
    tell(arguments, told, batch_size=settings["batch_size"], dim=settings["dim"], layers=settings["layers"])


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
