"""The job's command line: what cannot be searched is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from recsys_spark.pipeline import runner
from recsys_spark.pipeline.command import BAD_INPUT, main
from tests.shop import write_shop

EASE = "tuning.space.ease={l2: {low: 1, high: 50, log: true}}"


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("magic", (), "--model magic: no such recommender; known are "),
        ("ease", (), "tuning.space.ease: there is nothing to search; give ranges, such as "),
        ("ease", ("tuning.space.ease={l3: {choices: [1]}}",), "tuning: space.ease.l3: no such setting; known are "),
        ("ease", ("tuning.space.ease={l2: {low: -1, high: 1}}",), "tuning: space.ease.l2: -1 is not possible"),
        ("ease", ("tuning.space.ease={l2: {from: 1}}",), "tuning.space.ease.l2.from: unknown key"),
        ("ease", (EASE, "tuning.sampler=bayes"), "tuning.sampler: Input should be 'grid', 'random' or 'tpe'"),
        ("ease", (EASE, "tuning.trials=0"), "tuning.trials: Input should be greater than 0"),
        ("ease", (EASE,), "nothing published by build_datasets; run jobs/build_datasets.py first"),
    ],
)
def test_bad_input_is_one_line_before_spark_starts(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    settings: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.setattr(runner, "build_session", lambda *_: pytest.fail("Spark was started"))
    config = write_shop(tmp_path / "shop")
    words = [word for setting in settings for word in ("--set", setting)]
    assert main("tune_model", ["--config", str(config), "--model", name, *words]) == BAD_INPUT
    out, err = capsys.readouterr()
    (said,) = [line for line in err.splitlines() if line.startswith("tune_model: ")]
    assert message in said
    assert "Traceback" not in err
    assert json.loads(out.splitlines()[-1])["status"] == "failed"


def test_the_recommender_must_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main("tune_model", ["--config", "nowhere.yaml"])
    assert left.value.code == BAD_INPUT
    assert "the following arguments are required: --model" in capsys.readouterr().err
