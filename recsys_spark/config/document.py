"""`python -m recsys_spark.config.document`: writes what is said about configuration and tables from their definitions.

Written are docs/configuration.md, docs/tables.md, conf/base.yaml and conf/models/<name>.yaml. With `--check` nothing is
written, and the exit code is 1 where a file is not what it should be.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from recsys_spark.config.pages import GENERATED, base_yaml, configuration_page, model_yaml, tables_page
from recsys_spark.config.recommenders import Recommenders

ROOT = Path(__file__).resolve().parents[2]


def documents() -> dict[Path, str]:
    """Every generated file's path, relative to the repository, and its content."""
    files = {
        Path("docs/configuration.md"): configuration_page(),
        Path("docs/tables.md"): tables_page(),
        Path("conf/base.yaml"): base_yaml(),
    }
    for name in Recommenders.model_fields:
        files[Path("conf/models") / f"{name}.yaml"] = model_yaml(name)
    return files


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files, or with --check compare them."""
    parser = argparse.ArgumentParser(prog=GENERATED, description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only tell whether the files are up to date")
    parser.add_argument("--root", type=Path, default=ROOT, help="the repository")
    options = parser.parse_args(arguments)
    stale = []
    for path, content in documents().items():
        file = options.root / path
        if file.exists() and file.read_text(encoding="utf-8") == content:
            continue
        stale.append(str(path))
        if not options.check:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content, encoding="utf-8")
    if stale:
        print(f"{'not up to date, run make docs' if options.check else 'written'}: {', '.join(stale)}")
    return 1 if stale and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
