"""The zip that spark-submit ships."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def build(target):
    subprocess.run([sys.executable, str(ROOT / "scripts/build_zip.py"), str(target)], check=True, capture_output=True)
    return target.read_bytes()


def test_the_same_sources_give_the_same_zip(tmp_path):
    assert build(tmp_path / "one.zip") == build(tmp_path / "folder/two.zip")


def test_the_package_imports_from_the_zip_alone(tmp_path):
    build(tmp_path / "recsys_spark.zip")
    code = "import sys; sys.path.insert(0, 'recsys_spark.zip'); import recsys_spark.config as c; print(c.__file__)"
    result = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert result.stdout.startswith("recsys_spark.zip") or str(tmp_path) in result.stdout


def test_the_zip_holds_every_python_file_and_nothing_else(tmp_path):
    build(tmp_path / "recsys_spark.zip")
    with zipfile.ZipFile(tmp_path / "recsys_spark.zip") as archive:
        names = set(archive.namelist())
    assert names == {str(path.relative_to(ROOT)) for path in (ROOT / "recsys_spark").rglob("*.py")}
