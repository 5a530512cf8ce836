"""Pack what the jobs need besides Spark, the interpreter included, for `spark-submit --archives FILE#environment`.

The archive holds `bin/python`, the standard library and the installed packages that recsys-spark requires, and it runs
wherever it is unpacked, on hosts without any Python. Spark's own packages come from the cluster, recsys_spark itself
goes by `--py-files`. The same environment gives the same bytes.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import io
import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution
from pathlib import Path, PurePosixPath

from audit import locked
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PROJECT = "recsys-spark"
FROM_ELSEWHERE = ("pyspark", "py4j")
"""Every Spark brings its own, and puts it before all others."""
NOT_RUN = {"test", "tests", "include"}
"""Folders of packages that nothing imports when jobs run."""
NOT_RUN_STDLIB = {"test", "idlelib", "lib2to3", "tkinter", "turtledemo", "ensurepip", "site-packages", "dist-packages"}
ASK = """
import json, os, sys, sysconfig
shared = sysconfig.get_config_var("Py_ENABLE_SHARED")
library = os.path.join(sysconfig.get_config_var("LIBDIR") or "", sysconfig.get_config_var("INSTSONAME") or "")
print(json.dumps({
    "prefix": sys.prefix,
    "executable": os.path.realpath(sys.executable),
    "stdlib": sysconfig.get_path("stdlib"),
    "packages": sysconfig.get_path("purelib"),
    "library": library if shared else None,
}))
"""
PYTHON = """#!/bin/sh
# Python of this folder, wherever it stands: with the library that it was linked to, without packages of a user's home.
home=$(dirname "$(dirname "$(readlink -f "$0")")")
export PYTHONNOUSERSITE=1 LD_LIBRARY_PATH="$home/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
exec "$home/bin/NAME" "$@"
"""
CHECK = """
import sys
import recsys_spark.datasets.passes, recsys_spark.events.bucket, recsys_spark.features.apply
import recsys_spark.scoring.evaluate, recsys_spark.scoring.recommend, recsys_spark.training.worker
if sys.argv[1] == "jobs":
    import recsys_spark.pipeline.command, recsys_spark.fitting.registry, recsys_spark.training.launch
    import recsys_spark.pipeline.promote, recsys_spark.streaming.command, recsys_spark.tuning.search
allowed = tuple(sys.argv[2:])
files = {name: getattr(module, "__file__", None) or "" for name, module in list(sys.modules.items())}
files = {name: file for name, file in files.items() if file.startswith("/")}  # some of torch's are made up
strangers = [f"{name} ({file})" for name, file in files.items() if not file.startswith(allowed)]
sys.exit(f"imported from elsewhere: {', '.join(sorted(strangers)[:5])}" if strangers else 0)
"""


class Refused(Exception):  # noqa: N818
    """The environment cannot be packed; the text says why and what to do."""


@dataclass(frozen=True)
class Interpreter:
    """The Python that a virtual environment was made from."""

    prefix: Path
    executable: Path
    stdlib: Path
    packages: Path
    """Where it looks for installed packages, below its prefix."""
    library: Path | None
    """The shared library that it is linked to, where it is."""

    @classmethod
    def found(cls, executable: str) -> Interpreter:
        """Ask an interpreter about itself."""
        said = subprocess.run([executable, "-I", "-c", ASK], check=True, capture_output=True, text=True).stdout
        return cls(**{name: Path(value) if value else None for name, value in json.loads(said).items()})

    def inside(self, path: Path) -> str:
        """Where a path below the prefix stands in the archive."""
        return path.relative_to(self.prefix).as_posix()


def packages_in(sites: Sequence[str]) -> dict[str, Distribution]:
    """The packages of site-packages folders by name; one that lost its metadata is none."""
    found: dict[str, Distribution] = {}
    for each in Distribution.discover(path=list(sites)):
        if each.read_text("METADATA") or each.read_text("PKG-INFO"):
            found.setdefault(canonicalize_name(each.name), each)  # the first is what Python imports
    return found


def required(
    installed: Mapping[str, Distribution], root: str, extras: Sequence[str] = (), without: Collection[str] = ()
) -> dict[str, Distribution]:
    """The installed packages that `root` with `extras` requires, directly or not, by name, and not `root` itself.

    What is `without` is left out, with what nothing else requires. Raises Refused where one is not installed.
    """
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, str]] = set()
    todo = [(root, extra) for extra in ("", *extras)]
    while todo:
        name, extra = todo.pop()
        if (name, extra) in seen or name in without:
            continue
        if name not in installed:
            raise Refused(f"{name} is required and not installed in {sys.prefix}; run make setup")
        seen.add((name, extra))
        found[name] = installed[name]
        for line in installed[name].requires or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                own = canonicalize_name(requirement.name)
                todo += [(own, each) for each in ("", *sorted(requirement.extras))]
    del found[root]
    return dict(sorted(found.items()))


def check_pins(chosen: Mapping[str, Distribution], constraints: str) -> list[str]:
    """The packages that constraints do not name. Raises Refused where one has another version than they say."""
    pins = locked(constraints)
    for name, distribution in chosen.items():
        version = distribution.version.partition("+")[0]  # 2.13.0+cpu is a build of 2.13.0
        if name in pins and version != pins[name].partition("+")[0]:
            raise Refused(f"{name} is {version} here and {pins[name]} in constraints.txt; run make setup")
    return [name for name in chosen if name not in pins]


def package_files(chosen: Iterable[Distribution], place: str) -> dict[str, Path]:
    """What packages installed below site-packages, by place in the archive; no scripts, tests and headers."""
    files = {}
    for distribution in chosen:
        for file in distribution.files or ():
            path = Path(str(distribution.locate_file(file)))
            if ".." not in file.parts and not NOT_RUN & set(file.parts[:-1]) and path.is_file():
                files[str(PurePosixPath(place) / file.as_posix())] = path
    return files


def interpreter_files(python: Interpreter) -> dict[str, Path]:
    """The interpreter, its shared library and its standard library, by place in the archive."""
    files = {f"bin/{python.executable.name}": python.executable}
    if python.library is not None:
        files[f"lib/{python.library.name}"] = python.library
    for folder, folders, names in os.walk(python.stdlib):
        folders[:] = [name for name in folders if name not in NOT_RUN_STDLIB and not name.startswith("config-")]
        files |= {python.inside(Path(folder, name)): Path(folder, name) for name in names}
    return files


def pack(target: Path, files: Mapping[str, Path], texts: Mapping[str, str], level: int) -> None:
    """Write files, and programs that are given as text, into a `.tar` or `.tar.gz`, in the order of their names."""
    compressed = target.name.endswith("gz")
    with (
        target.open("wb") as raw,
        gzip.GzipFile("", "wb", level, raw, mtime=0) if compressed else raw as sink,
        tarfile.open(fileobj=sink, mode="w", dereference=True) as archive,
    ):
        for name in sorted({*files, *texts}):
            entry = archive.gettarinfo(files[name], name) if name in files else tarfile.TarInfo(name)
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = ""
            entry.mtime = int(entry.mtime)
            if name in files:
                with files[name].open("rb") as content:
                    archive.addfile(entry, content)
            else:
                text = texts[name].encode()
                entry.size, entry.mode = len(text), 0o755
                archive.addfile(entry, io.BytesIO(text))


def check(archive: Path, what: str) -> None:
    """Unpack the archive and import the `jobs` there, or only what `tasks` import, with Spark's packages.

    Raises Refused where that fails.
    """
    from build_zip import build

    spec = importlib.util.find_spec("pyspark")
    assert spec is not None, "the project requires it"
    assert spec.origin is not None
    spark = sorted(str(path) for path in Path(spec.origin).parent.glob("python/lib/*.zip"))
    with tempfile.TemporaryDirectory(dir=archive.parent, prefix=".check-") as folder:
        home, package = Path(folder, "environment").resolve(), str(Path(folder, "recsys_spark.zip"))
        home.mkdir()
        subprocess.run(["tar", "-xf", str(archive), "-C", str(home)], check=True)
        build(Path(package))
        environment = {name: os.environ[name] for name in ("HOME", "LANG", "PATH", "TMPDIR") if name in os.environ}
        environment["PYTHONPATH"] = os.pathsep.join([package, *spark])
        ended = subprocess.run(
            [str(home / "bin" / "python"), "-c", CHECK, what, str(home), package, *spark],
            cwd=folder, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
    if ended.returncode:
        raise Refused(f"the packed environment does not run the {what}: {ended.stderr.strip().splitlines()[-1]}")


def build_environment(target: Path, extras: Sequence[str], without: Sequence[str], level: int, checked: bool) -> str:
    """Pack the environment that runs this; a line that says what is in it. Raises Refused."""
    sites = sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    installed = packages_in(sites)
    chosen = required(installed, PROJECT, extras, {*FROM_ELSEWHERE, *map(canonicalize_name, without)})
    free = check_pins(chosen, (ROOT / "constraints.txt").read_text(encoding="utf-8"))
    python = Interpreter.found(getattr(sys, "_base_executable", sys.executable))
    files = interpreter_files(python) | package_files(chosen.values(), python.inside(python.packages))
    program = PYTHON.replace("NAME", python.executable.name)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".partial-{target.name}")
    try:
        pack(partial, files, {"bin/python": program, "bin/python3": program}, level)
        if checked:
            check(partial, "tasks" if without else "jobs")
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    unpinned = f"; without a pin in constraints.txt: {', '.join(free)}" if free else ""
    unpacked = sum(path.stat().st_size for path in files.values())
    return f"{len(chosen)} packages, {_mb(unpacked)} MB, packed {_mb(target.stat().st_size)} MB{unpinned}"


def _mb(size: int) -> str:
    return f"{size / 1e6:,.0f}"


def main() -> int:
    """Pack as the command line says; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", type=Path, help="a .tar.gz, or a .tar, which is packed and unpacked faster")
    parser.add_argument(
        "--extras", nargs="*", default=[], metavar="NAME", help="extras of pyproject.toml, such as text"
    )
    parser.add_argument(
        "--without", nargs="*", default=[], metavar="PACKAGE", help="to leave out; only tasks are tried then"
    )
    parser.add_argument("--level", type=int, default=6, choices=range(10), metavar="0-9", help="of gzip; default 6")
    parser.add_argument("--unchecked", action="store_true", help="do not unpack and try it")
    given = parser.parse_args()
    if not given.target.name.endswith((".tar.gz", ".tgz", ".tar")):
        parser.error(f"{given.target}: name it .tar.gz or .tar: Spark unpacks by the ending")
    try:
        said = build_environment(given.target, given.extras, given.without, given.level, not given.unchecked)
    except Refused as error:
        print(f"{given.target}: {error}", file=sys.stderr)
        return 2
    print(f"{given.target}: {said}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
