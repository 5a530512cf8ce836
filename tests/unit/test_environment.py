"""The packed environment: which packages, which files, and a Python that runs where it was unpacked."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

import build_environment as environment
import pytest

ROOT = Path(__file__).resolve().parents[2]


def install(site, name, requires=(), files=("__init__.py",), version="1.0"):
    """A package as pip leaves it."""
    info = site / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    (info / "METADATA").write_text("\n".join([*lines, *(f"Requires-Dist: {line}" for line in requires), "", ""]))
    paths = [f"{name}/{file}" for file in files]
    for path in paths:
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_text(f"# {path}")
    record = [*paths, f"{info.name}/METADATA", f"../../../bin/{name}", f"{name}/gone.py"]
    (info / "RECORD").write_text("".join(f"{path},,\n" for path in record))


@pytest.fixture
def site(tmp_path):
    site = tmp_path / "venv/lib/python3.11/site-packages"
    install(site, "shop", ["Torchy>=2", "sparky", 'texty; extra == "text"', 'old; python_version < "3"', "plotty"])
    install(site, "torchy", ["deep[fast]"], files=("__init__.py", "test/big.py", "include/x.h", "lib/tests.py"))
    install(site, "deep", ['quick; extra == "fast"', 'slow; extra == "slow"'])
    for name in ("quick", "sparky", "texty", "devtool", "inky"):
        install(site, name)
    install(site, "plotty", ["inky", "deep"])
    return site


def installed(site):
    return environment.packages_in([str(site)])


def test_what_the_project_requires_is_packed_with_its_extras_and_nothing_else(site):
    plain = environment.required(installed(site), "shop")
    assert list(plain) == ["deep", "inky", "plotty", "quick", "sparky", "torchy"]
    assert environment.required(installed(site), "shop", ["text"]).keys() - plain.keys() == {"texty"}


def test_what_is_left_out_takes_along_what_only_it_requires(site):
    left = environment.required(installed(site), "shop", without={"plotty", "sparky"})
    assert list(left) == ["deep", "quick", "torchy"]


def test_a_requirement_that_is_not_installed_is_named(site):
    (site / "quick-1.0.dist-info/METADATA").unlink()
    with pytest.raises(environment.Refused, match="quick is required and not installed"):
        environment.required(installed(site), "shop")


def test_another_version_than_the_pinned_one_is_refused_and_what_has_no_pin_is_told(site):
    chosen = {name: installed(site)[name] for name in ("deep", "torchy")}
    assert environment.check_pins(chosen, "# pins\ndeep==1.0  # why\nother==3\n") == ["torchy"]
    assert environment.check_pins(chosen, "deep==1.0\nTorchy==1.0+cpu\n") == []
    with pytest.raises(environment.Refused, match=r"torchy is 1.0 here and 2.0 in constraints.txt; run make setup"):
        environment.check_pins(chosen, "torchy==2.0\n")


def test_tests_headers_scripts_and_lost_files_stay_out(site):
    files = environment.package_files([installed(site)["torchy"]], "lib/python3.11/site-packages")
    place = "lib/python3.11/site-packages/torchy"
    assert set(files) == {f"{place}/__init__.py", f"{place}/lib/tests.py", f"{place}-1.0.dist-info/METADATA"}


def test_the_same_files_give_the_same_archive_whoever_owns_them(site, tmp_path):
    files = environment.package_files(installed(site).values(), "lib")
    environment.pack(tmp_path / "one.tar.gz", files, {"bin/python": "#!/bin/sh\n"}, level=1)
    environment.pack(tmp_path / "two.tar.gz", dict(reversed(files.items())), {"bin/python": "#!/bin/sh\n"}, level=1)
    assert (tmp_path / "one.tar.gz").read_bytes() == (tmp_path / "two.tar.gz").read_bytes()
    with tarfile.open(tmp_path / "one.tar.gz") as archive:
        members = archive.getmembers()
    assert [member.name for member in members] == sorted(["bin/python", *files])
    assert {(member.uid, member.uname) for member in members} == {(0, "")}


def test_the_packed_python_runs_from_another_folder_with_its_own_library(tmp_path):
    """The interpreter and what it needs to start, with one module of ours; it does not look where it came from."""
    python = environment.Interpreter.found(sys._base_executable)
    (tmp_path / "ours.py").write_text("said = 'here'")
    files = environment.interpreter_files(python) | {f"{python.inside(python.packages)}/ours.py": tmp_path / "ours.py"}
    program = environment.PYTHON.replace("NAME", python.executable.name)
    environment.pack(tmp_path / "packed.tar", files, {"bin/python": program}, level=0)
    home = tmp_path / "else where" / "environment"
    home.mkdir(parents=True)
    subprocess.run(["tar", "-xf", str(tmp_path / "packed.tar"), "-C", str(home)], check=True)
    code = "import sys, ours; print(sys.prefix, ours.said); print(*sys.path, *(open('/proc/self/maps')), sep='\\n')"
    ended = subprocess.run(["./environment/bin/python", "-c", code], cwd=home.parent, capture_output=True, text=True)
    assert ended.stdout.splitlines()[:1] == [f"{home} here"], ended.stderr
    where_from = [str(path) for path in (python.stdlib, python.library) if path]
    assert not [line for line in ended.stdout.splitlines() if any(path in line for path in where_from)]
