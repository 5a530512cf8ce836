"""Write the package as one zip for `spark-submit --py-files`; the same sources give the same bytes."""

from __future__ import annotations

import argparse
import zipfile
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "recsys_spark"
EARLIEST = (1980, 1, 1, 0, 0, 0)
"""The first time that a zip can hold; the files' own times would make every zip differ."""


def build(target: Path) -> int:
    """Zip the package's Python files into `target`; returns how many there are."""
    sources = sorted(PACKAGE.rglob("*.py"))
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w") as archive:
        for source in sources:
            entry = zipfile.ZipInfo(source.relative_to(PACKAGE.parent).as_posix(), EARLIEST)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, source.read_bytes())
    return len(sources)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", type=Path)
    arguments = parser.parse_args()
    print(f"{arguments.target}: {build(arguments.target)} files")
