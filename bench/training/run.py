r"""Trains our gru and sasrec beside RecTools' SASRec and RecBole's GRU4Rec and SASRec, one after the other.

    python bench/training/run.py --data Beauty.txt --rectools-python .venv-rectools/bin/python \
        --recbole-python .venv-recbole/bin/python --write

Each library runs in a process of its own environment (bench/training/requirements-*.txt), held to the same cores and
threads, with the same data, width, layers and length, in float32 with full softmax over the catalogue; batch size,
learning rate and the like are the library's own defaults. Ours run once more with our default loss, the sampled
softmax (ours_*_sampled). docs/benchmarks.md defines what is measured. Prints a table; --write also merges the runs into
bench/results/training.json: those of the same machine, data, size, engine and settings are replaced.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from bench.training.data import num_items, read_histories, split_last  # noqa: E402
from bench.training.engine import thread_environment  # noqa: E402
from bench.training.evaluator import mean_ndcg, read_lists  # noqa: E402
from bench.training.matrix_rate import matrix_rate, softmax_flops  # noqa: E402

ENGINES = {
    "ours_gru": ("ours.py", "gru", "--loss=full_softmax"),
    "ours_gru_sampled": ("ours.py", "gru", "--loss=sampled_softmax"),
    "ours_sasrec": ("ours.py", "sasrec", "--loss=full_softmax"),
    "ours_sasrec_sampled": ("ours.py", "sasrec", "--loss=sampled_softmax"),
    "rectools_sasrec": ("rectools_sasrec.py", "sasrec"),
    "recbole_gru4rec": ("recbole_models.py", "gru"),
    "recbole_sasrec": ("recbole_models.py", "sasrec"),
}
"""Script, model, and what else the script is told."""
RIVALS = {
    "ours_gru": ("recbole_gru4rec",),
    "ours_gru_sampled": ("recbole_gru4rec",),
    "ours_sasrec": ("rectools_sasrec", "recbole_sasrec"),
    "ours_sasrec_sampled": ("rectools_sasrec", "recbole_sasrec"),
}
PLACE = ("processor", "cores", "threads", "device", "data", "items", "length", "dim", "layers", "precision")
"""What runs that are compared have in common: machine, data, size and precision."""
RUN = (*PLACE, "engine", "batch_size", "overrides")
"""What a run is known by in the results."""
RESULTS = ROOT / "bench" / "results" / "training.json"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="files as bench/training/data.py says")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--dims", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--lengths", type=int, nargs="+", default=[50, 200])
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--epochs-of", action="append", default=[], metavar="ENGINE=N", help="for one engine")
    parser.add_argument("--batch-of", action="append", default=[], metavar="ENGINE=N", help="for one engine")
    parser.add_argument("--precision", choices=["float32", "bf16"], default="float32", help="of ours")
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="further settings of ours")
    elsewhere = parser.add_mutually_exclusive_group()
    elsewhere.add_argument("--prepare", type=Path, help="only prepare ours there, for a machine without Spark")
    elsewhere.add_argument("--prepared", type=Path, help="ours train what --prepare left there, without Spark")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--ours-python", default=sys.executable)
    parser.add_argument("--rectools-python", default=sys.executable)
    parser.add_argument("--recbole-python", default=sys.executable)
    parser.add_argument("--keep", type=Path, default=None, help="folder in which lists, logs and workspaces stay")
    parser.add_argument("--write", action="store_true", help="merge into bench/results/training.json")
    arguments = parser.parse_args()
    if arguments.prepared and arguments.overrides:
        parser.error("--set: what is --prepared has its settings; give them to --prepare")
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        work = (arguments.keep or Path(scratch)).absolute()
        for data in arguments.data:
            for length in arguments.lengths:
                for dim in arguments.dims:
                    size = Size(data.absolute(), length, dim)
                    if arguments.prepare:
                        prepare(size, arguments)
                        continue
                    for one in compared(size, arguments, work):
                        runs.append(one)
                        if arguments.write:
                            write(runs)
    if not arguments.prepare:
        print_table(runs)
    return 0


@dataclass(frozen=True)
class Size:
    """What all engines are given alike."""

    data: Path
    length: int
    dim: int

    def folder(self, engine: str) -> str:
        """The name of an engine's folder."""
        return f"{self.data.stem}-{self.length}-{self.dim}-{engine}"


def compared(size: Size, arguments: argparse.Namespace, work: Path) -> Iterator[dict[str, Any]]:
    """The runs of all engines at one size, each when it is done."""
    histories = read_histories(size.data)
    split, items = split_last(histories), num_items(histories)
    rates = {
        kind: matrix_rate(items, size.dim, arguments.threads, kind == "bf16", arguments.device)
        for kind in ("float32", "bf16")
    }
    for engine in arguments.engines:
        folder = work / size.folder(engine)
        told = run(engine, size, arguments, folder)
        ndcg = {
            int(path.stem.partition("-")[2]): mean_ndcg(read_lists(path), split.train, split.valid)
            for path in sorted(folder.glob("lists-*.npz"))
        }
        best = max(ndcg, key=lambda epoch: ndcg[epoch])
        place = {"processor": processor(arguments.device), "cores": os.cpu_count(), "device": arguments.device}
        place |= {"data": size.data.name, "engine": engine, "items": items}
        found = {**place, **told, **speed(told, items, rates), "ndcg_at_10": ndcg[best], "best_epoch": best}
        found |= {"ndcg_by_epoch": ndcg, "seconds_to_best": best * found["epoch_median_seconds"]}
        print(f"{folder.name}: {found['positions_per_second']:,.0f} positions/s, NDCG@10 {ndcg[best]:.4f}", flush=True)
        yield found


def prepare(size: Size, arguments: argparse.Namespace) -> None:
    """Leave what `--prepared` takes of each of our engines."""
    for engine in arguments.engines:
        if engine.startswith("ours"):
            folder = arguments.prepare.absolute() / size.folder(engine)
            run_script(engine, size, arguments, folder, ENGINES[engine][0], "--prepare-only")
            print(f"{folder} is prepared", flush=True)


def run(engine: str, size: Size, arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run an engine; returns what it tells."""
    if engine.startswith("ours") and arguments.prepared:
        prepared = arguments.prepared.absolute() / size.folder(engine)
        run_script(engine, size, arguments, folder, "ours_training.py", "--prepared", str(prepared))
    else:
        run_script(engine, size, arguments, folder, ENGINES[engine][0])
    told: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return told


def run_script(
    engine: str, size: Size, arguments: argparse.Namespace, folder: Path, script: str, *further: str
) -> None:
    """Run a script in the engine's own environment; its output goes to log.txt. Raises SystemExit where it fails."""
    _, model, *flags = ENGINES[engine]
    python = getattr(arguments, f"{engine.partition('_')[0]}_python")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    epochs = chosen(arguments.epochs_of, engine) or str(arguments.epochs)
    command = [python, str(Path(__file__).with_name(script)), "--data", str(size.data), "--out", str(folder)]
    command += ["--model", model, "--dim", str(size.dim), "--length", str(size.length), "--epochs", epochs]
    command += ["--layers", str(arguments.layers), "--threads", str(arguments.threads), "--device", arguments.device]
    command += [*flags, *further]
    if batch := chosen(arguments.batch_of, engine):
        command += ["--batch-size", batch]
    if engine.startswith("ours"):
        command += ["--precision", arguments.precision]
    if script == "ours.py":
        command += [part for override in arguments.overrides for part in ("--set", override)]
    cores = sorted(os.sched_getaffinity(0))[: arguments.threads]
    with (folder / "log.txt").open("w", encoding="utf-8") as log:
        done = subprocess.run(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=thread_environment(arguments.threads),
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
    if done.returncode:
        end = "\n".join((folder / "log.txt").read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
        raise SystemExit(f"{engine} failed (exit code {done.returncode}):\n{end}\ndoes {python} have it?")


def chosen(pairs: list[str], engine: str) -> str | None:
    """What is said of an engine, where something is."""
    return dict(pair.split("=", 1) for pair in pairs).get(engine)


def speed(told: dict[str, Any], items: int, rates: dict[str, float]) -> dict[str, Any]:
    """Positions a second by the median epoch, and how far that is from the full softmax's products alone."""
    median = statistics.median(told["epoch_seconds"])
    rates_told = {
        "epoch_median_seconds": median,
        "positions_per_second": told["positions"] / median,
        "matrix_gflops": {kind: rate / 1e9 for kind, rate in rates.items()},
    }
    if told["loss"] != "full_softmax":  # it does not compute these products
        return rates_told
    flops = softmax_flops(told["positions"], items, told["dim"])
    return {
        **rates_told,
        "floor_seconds": {kind: flops / rate for kind, rate in rates.items()},
        "over_floor": {kind: median * rate / flops for kind, rate in rates.items()},
    }


def ratios(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Ours over theirs: positions a second, and the difference in NDCG@10, of runs of one place alone."""
    lines = []
    for ours in runs:
        for theirs in runs:
            place = {name: ours[name] for name in PLACE}
            same = place == {name: theirs[name] for name in PLACE}
            if not same or theirs["engine"] not in RIVALS.get(ours["engine"], ()):
                continue
            line = {"ours": ours["engine"], "loss": ours["loss"], "overrides": ours["overrides"]}
            line |= {"theirs": theirs["engine"], "their_loss": theirs["loss"], **place}
            line["batch_sizes"] = [ours["batch_size"], theirs["batch_size"]]
            line["speed_ratio"] = round(ours["positions_per_second"] / theirs["positions_per_second"], 2)
            line["ndcg_difference"] = round(ours["ndcg_at_10"] - theirs["ndcg_at_10"], 5)
            lines.append(line)
    return lines


def print_table(runs: list[dict[str, Any]]) -> None:
    print("\n| data | length | d | engine | loss | precision | positions/s | epoch s | NDCG@10 | epoch | over floor |")
    print("|---" * 11 + "|")
    for run in runs:
        place = f"| {run['data']} | {run['length']} | {run['dim']} | {run['engine']} | {run['loss']}"
        speed = f" | {run['precision']} | {run['positions_per_second']:,.0f} | {run['epoch_median_seconds']:.1f}"
        floor = f"{run['over_floor'][run['precision']]:.2f}" if "over_floor" in run else ""
        print(f"{place}{speed} | {run['ndcg_at_10']:.4f} | {run['best_epoch']} | {floor} |")
    print("\n| data | length | d | ours | loss | theirs | loss | times as fast | NDCG@10 more |")
    print("|---|---|---|---|---|---|---|---|---|")
    for line in ratios(runs):
        place = f"| {line['data']} | {line['length']} | {line['dim']} | {line['ours']} | {line['loss']}"
        place += f" | {line['theirs']} | {line['their_loss']}"
        print(f"{place} | {line['speed_ratio']:.2f} | {line['ndcg_difference']:+.4f} |")


def write(runs: list[dict[str, Any]]) -> None:
    """Put the runs into the results, in place of those that are known by the same."""
    before = json.loads(RESULTS.read_text(encoding="utf-8"))["runs"] if RESULTS.exists() else []
    merged = list({json.dumps([run[name] for name in RUN]): run for run in [*before, *runs]}.values())
    RESULTS.write_text(json.dumps({"ratios": ratios(merged), "runs": merged}, indent=1) + "\n", encoding="utf-8")


def processor(device: str) -> str:
    """What computes."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


if __name__ == "__main__":
    sys.exit(main())
