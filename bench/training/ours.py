"""Our `gru` and `sasrec` by the project's own stages and training: run by bench/training/run.py.

The stages before train_models run, then the `select` fit of one recommender is launched as train_models launches it,
with the loss of --loss, in float32 and without early stop. A row holds `--length` + 1 events, so it reads and trains
`--length` positions; what a longer history has besides stands in further rows. There are lists of one epoch alone: that
of the best NDCG on the training's own valid users. Settings beyond size come from --set (as in
`--set recommenders.gru.learning_rate=0.002`), else they are the project's defaults; result.json says what they came to.

`--prepare-only` ends before training and leaves in --out what ours_training.py trains where there is no Spark.
"""

from __future__ import annotations

import itertools
import shutil
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
import yaml  # noqa: E402

from bench.accuracy.beauty.prepare import write_events  # noqa: E402
from bench.training.data import read_histories, split_last  # noqa: E402
from bench.training.ours_training import Prepared, conclude, our_parser  # noqa: E402
from recsys_spark.config import load_config  # noqa: E402
from recsys_spark.fitting.neural import make_spec  # noqa: E402
from recsys_spark.pipeline.runner import Runner  # noqa: E402
from recsys_spark.pipeline.stage import Stage, StageContext, StageResult  # noqa: E402
from recsys_spark.pipeline.stages import STAGES  # noqa: E402
from recsys_spark.pipeline.train import fit_inputs  # noqa: E402
from recsys_spark.training.launch import launch  # noqa: E402


def main() -> int:
    parser = our_parser(__doc__)
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="further settings")
    parser.add_argument("--prepare-only", action="store_true", help="leave what ours_training.py takes, train nothing")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    histories = read_histories(arguments.data)
    write_events({user: histories[user] for user in split_last(histories).train}, arguments.out / "events.csv")
    (arguments.out / "config.yaml").write_text(yaml.safe_dump(configuration(arguments)), encoding="utf-8")
    runner = Runner(load_config([str(arguments.out / "config.yaml")], arguments.overrides), "bench training", None)

    def train(context: StageContext) -> StageResult:
        inputs = fit_inputs(context, arguments.model, "select", {})
        settings = getattr(context.config.recommenders, arguments.model).model_dump(mode="json")
        prepared = Prepared(make_spec(inputs), settings, arguments.overrides)
        if arguments.prepare_only:
            shutil.copytree(inputs.dataset, arguments.out / "dataset")
            prepared.save(arguments.out)
        else:
            conclude(arguments, prepared, launch(context.spark, prepared.spec, 0, inputs.progress, inputs.metric))
        return StageResult()

    try:
        for stage in itertools.takewhile(lambda stage: stage.name != "train_models", STAGES.values()):
            runner.run(stage, reuse=True)
        upstream = STAGES["train_models"].upstream
        runner.run(Stage(name="bench_training", upstream=upstream, config_keys=(), run=train))
    finally:
        runner.stop()
    if arguments.prepare_only:
        shutil.rmtree(arguments.out / "workspace")
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
        "training": {"precision": arguments.precision, "gpu": "required" if arguments.device == "cuda" else "off"},
        "spark": {"master": f"local[{arguments.threads}]", "driver_memory": "2g"},
        "seed": arguments.seed,
    }


if __name__ == "__main__":
    sys.exit(main())
