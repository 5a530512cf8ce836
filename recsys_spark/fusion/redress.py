"""A stored fused model under other business rules: a copy that shares its files."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from recsys_spark.errors import UserError
from recsys_spark.fusion.model import COMPONENTS, FUSION
from recsys_spark.fusion.rules.compiled import ITEMS, SETTINGS, ListRules
from recsys_spark.recommenders.bundle import MANIFEST, file_sha256
from recsys_spark.recommenders.vocabulary import Vocabulary


def has_rules(directory: Path) -> bool:
    """Has the model in `directory` business rules."""
    return (directory / SETTINGS).exists()


def vocabulary_of(directory: Path) -> Vocabulary:
    """The vocabulary of the model in `directory`. Raises UserError where that holds none."""
    try:
        first = json.loads((directory / FUSION).read_text(encoding="utf-8"))["order"][0]
        return Vocabulary.load(directory / COMPONENTS / first / "vocabulary.parquet")
    except (OSError, ValueError, LookupError):
        raise UserError(f"model {directory}: {FUSION} is missing or damaged") from None


def redress(directory: Path, target: Path, rules: ListRules | None) -> None:
    """Write the model of `directory` into the new directory `target`, under these rules or none.

    Its files are linked where the file system can, else copied.
    """

    def changed(folder: str, names: list[str]) -> set[str]:
        return {MANIFEST, SETTINGS, ITEMS} & set(names) if Path(folder) == directory else set()

    shutil.copytree(directory, target, ignore=changed, copy_function=_link)
    manifest = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
    files = {name: value for name, value in manifest["files"].items() if name not in (SETTINGS, ITEMS)}
    for name in rules.save(target) if rules is not None else ():
        files[name] = file_sha256(target / name)
    (target / MANIFEST).write_text(json.dumps({**manifest, "files": files}, indent=1, sort_keys=True), encoding="utf-8")


def _link(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
    return target
