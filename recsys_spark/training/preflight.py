"""What is looked at before a launch: one line says what is missing."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Literal

import torch
from pyspark.sql import SparkSession

from recsys_spark.errors import UserError
from recsys_spark.session import is_local_master
from recsys_spark.training.lanes import lane_count, row_groups
from recsys_spark.training.spec import TrainSpec

SLOTS_SECONDS = 30.0
"""Executors of a cluster may take so long to register."""
Gpu = Literal["auto", "off", "required"]


def preflight(spark: SparkSession, spec: TrainSpec) -> None:
    """Refuse, in one line, what would hang or fail: uneven lanes, too few slots, dynamic allocation, encryption."""
    processes, conf = spec.num_processes, spark.sparkContext.getConf()
    lane_count(row_groups(Path(spec.dataset) / "sequences"), spec.batch_size, processes)
    slots = _slots(spark, processes)
    if processes > slots:
        cpus = conf.get("spark.task.cpus", "1")
        each = "" if cpus == "1" else f" of {cpus} cores each"
        raise UserError(
            f"training.num_processes is {processes} but {spark.sparkContext.master} has {slots} task slots{each}; "
            "lower it"
        )
    if is_local(spark):
        return
    for key, why in (
        ("spark.dynamicAllocation.enabled", "barrier tasks need all executors from the start"),
        ("spark.ssl.enabled", "the processes talk to each other without TLS"),
    ):
        if conf.get(key, "false") == "true":
            raise UserError(f"{key} is on, and {why}; turn it off for train_models")


def find_gpu(spark: SparkSession, processes: int, wanted: Gpu = "auto") -> bool:
    """Are there GPUs for all processes: on this host for a local master, else as resources of Spark's tasks.

    Raises UserError where GPUs are required and absent, and where executors have GPUs that the processes, a task each,
    would not get.
    """
    if wanted == "off":
        return False
    found = _gpus(spark, processes)
    if wanted == "required" and not found:
        where = "on this host" if is_local(spark) else "in spark.executor.resource.gpu.amount"
        raise UserError(
            f"training.gpu is required, but there are no {processes} GPUs for torch {where}; set it to auto or off to "
            "train on the CPU"
        )
    return found


def _gpus(spark: SparkSession, processes: int) -> bool:
    if is_local(spark):
        return torch.cuda.is_available() and torch.cuda.device_count() >= processes
    conf = spark.sparkContext.getConf()
    if float(conf.get("spark.executor.resource.gpu.amount", "0") or 0) <= 0:
        return False
    amount = float(conf.get("spark.task.resource.gpu.amount", "0") or 0)
    if amount != 1:
        raise UserError(
            f"executors have GPUs, but spark.task.resource.gpu.amount is {amount:g}; set it to 1 to train on them, "
            "or spark.executor.resource.gpu.amount to 0 to train without"
        )
    return True


def is_local(spark: SparkSession) -> bool:
    """Does Spark run within this process."""
    return is_local_master(spark.sparkContext.master)


def _slots(spark: SparkSession, wanted: int) -> int:
    """Tasks that can run at once; waits a while for `wanted` where executors may still register."""
    context, until = spark.sparkContext, time.monotonic() + (0 if is_local(spark) else SLOTS_SECONDS)
    scheduler = context._jsc.sc()
    profile = scheduler.resourceProfileManager().defaultResourceProfile()
    while True:
        # Counts spark.task.cpus and GPUs too; barrier stages are held against the same number.
        slots = int(scheduler.maxNumConcurrentTasks(profile))
        if slots >= wanted or time.monotonic() > until:
            return slots
        time.sleep(0.5)
