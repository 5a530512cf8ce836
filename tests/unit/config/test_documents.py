"""What is written about configuration and tables is what the code says."""

import json
import re

import pytest
import yaml

from recsys_spark.config import load_config
from recsys_spark.config.document import ROOT, documents, main
from recsys_spark.config.keys import keys
from recsys_spark.config.pages import TABLE_MEANINGS
from recsys_spark.config.recommenders import Recommenders
from recsys_spark.config.root import Config
from recsys_spark.tables.schemas import TABLES

SOURCE = "source={format: csv, path: x.csv, columns: {user_id: u, item_id: i, event_time: t}, event_type: purchase}"
PACKAGE = ROOT / "recsys_spark"


@pytest.mark.parametrize("path", sorted(documents()), ids=str)
def test_a_generated_file_is_up_to_date(path):
    assert (ROOT / path).read_text(encoding="utf-8") == documents()[path], "run make docs"


def test_check_tells_a_changed_file_and_writes_nothing(tmp_path, capsys):
    assert main(["--root", str(tmp_path)]) == 0
    assert main(["--root", str(tmp_path), "--check"]) == 0
    page = tmp_path / "docs" / "configuration.md"
    page.write_text("changed", encoding="utf-8")
    assert main(["--root", str(tmp_path), "--check"]) == 1
    assert "docs/configuration.md" in capsys.readouterr().out
    assert page.read_text(encoding="utf-8") == "changed"


def test_base_yaml_holds_exactly_the_defaults():
    written = yaml.safe_load((ROOT / "conf/base.yaml").read_text(encoding="utf-8"))
    source = yaml.safe_load(SOURCE.removeprefix("source="))
    defaults = Config.model_validate({"source": source}).model_dump(
        mode="json", exclude={"source", "catalog", "demographics"}
    )
    # YAML takes an unquoted day for a date.
    assert json.loads(json.dumps(written, default=str)) == defaults


@pytest.mark.parametrize("name", Recommenders.model_fields)
def test_a_models_file_holds_its_defaults(name):
    config = load_config([str(ROOT / "conf/models" / f"{name}.yaml")], [SOURCE])
    assert config == Config.model_validate({"source": config.source})


def test_every_table_is_described():
    assert set(TABLE_MEANINGS) == set(TABLES)


def test_every_key_has_a_meaning():
    assert [key.dotted for key in keys(Config) if not key.field.description] == []


def test_every_key_is_used_outside_the_configuration():
    sources = [path for path in PACKAGE.rglob("*.py") if PACKAGE / "config" not in path.parents]
    code = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    read = set(re.findall(r"\.([a-z_0-9]+)\b", code)) | set(re.findall(r"getattr\([^,]+, \"([a-z_0-9]+)\"", code))
    through_property = {"paths": "path", "modes": "repeats", "kinds": "price"}
    through_property |= {"closed": "closed_days", "judged_by": "limits"}
    read |= {key for name, key in through_property.items() if name in read}
    assert [key.dotted for key in keys(Config) if key.section is None and key.path[-1] not in read] == []
