"""A stage runs again exactly when something that it depends on changed."""

from __future__ import annotations

from pathlib import Path

from recsys_spark.config import Config
from recsys_spark.pipeline.keys import source_manifest, stage_key


def config(path: Path, **other: object) -> Config:
    source = {
        "format": "csv",
        "path": str(path / "*.csv"),
        "columns": {"user_id": "u", "item_id": "i", "event_time": "t"},
        "event_type": "purchase",
    }
    return Config.model_validate({"source": source, **other})


def key(settings: Config, keys: tuple[str, ...] = ("fusion",), as_of: str = "2020-01-01") -> str:
    return stage_key("demo", settings, keys, {"upstream": "k1"}, as_of, None)


def test_the_same_inputs_give_the_same_key(tmp_path: Path) -> None:
    assert key(config(tmp_path)) == key(config(tmp_path))


def test_only_its_slice_of_the_configuration_matters(tmp_path: Path) -> None:
    changed = config(tmp_path, fusion={"k": 7})
    assert key(changed) != key(config(tmp_path))
    assert key(changed, ("split",)) == key(config(tmp_path), ("split",))


def test_date_and_upstream_matter(tmp_path: Path) -> None:
    settings = config(tmp_path)
    assert key(settings, as_of="2020-01-02") != key(settings)
    assert stage_key("demo", settings, (), {"upstream": "k2"}, None, None) != stage_key(
        "demo", settings, (), {"upstream": "k1"}, None, None
    )


def test_a_file_that_grew_or_came_changes_the_manifest(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("u,i,t\n")
    before = source_manifest(config(tmp_path))
    assert before == source_manifest(config(tmp_path))
    (tmp_path / "a.csv").write_text("u,i,t\n1,2,3\n")
    grown = source_manifest(config(tmp_path))
    assert grown != before
    (tmp_path / "b.csv").write_text("u,i,t\n")
    assert source_manifest(config(tmp_path)) != grown


def test_files_that_only_sparks_globs_find_count_as_changed(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("u,i,t\n")
    settings = config(tmp_path)
    braces = settings.model_copy(update={"source": (settings.source[0].model_copy(update={"path": "{a,b}.csv"}),)})
    assert source_manifest(braces) != source_manifest(braces)
