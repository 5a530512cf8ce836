"""What promote_model is asked for is checked before anything is read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from recsys_spark.pipeline.command import main

CONFIG = """
workspace: {workspace}
source: {{format: csv, path: nowhere/*.csv, columns: {{user_id: u, item_id: i, event_time: t}}, event_type: purchase}}
"""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--approve", "Ann"), "--approve and --reject need --comment"),
        (("--reject", "Ann"), "--approve and --reject need --comment"),
        (("--by", "Ann"), "--by says who rolls back"),
    ],
)
def test_a_decision_needs_a_name_and_a_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    config = tmp_path / "shop.yaml"
    config.write_text(CONFIG.format(workspace=tmp_path / "workspace"))
    assert main("promote_model", ["--config", str(config), *arguments]) == 2
    printed = capsys.readouterr()
    assert said in printed.err
    assert json.loads(printed.out)["status"] == "failed"
    assert not (tmp_path / "workspace").exists()


@pytest.mark.parametrize(
    "arguments", [("--approve", "A", "--rollback"), ("--approve", "A", "--reject", "B"), ("--approve", " ")]
)
def test_only_one_decision_at_a_time_is_taken(arguments: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main("promote_model", ["--config", "x.yaml", *arguments])
    assert stopped.value.code == 2
