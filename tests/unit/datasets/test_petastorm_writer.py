from __future__ import annotations

import subprocess
import sys


def test_the_writer_itself_loads_what_its_tasks_use() -> None:
    """A Python worker imports this module alone, and pyarrow loads its parts only where they are asked for."""
    code = "import recsys_spark.datasets.petastorm_writer, sys; sys.exit('pyarrow.compute' not in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
