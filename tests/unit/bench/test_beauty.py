from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.accuracy.beauty.prepare import write_catalogue, write_events
from bench.accuracy.beauty.run import CONF, CONFS, TOGETHER
from recsys_spark.config import load_config


@pytest.mark.parametrize("conf", CONFS)
def test_a_confs_settings_are_those_of_the_configuration(conf: str) -> None:
    config = load_config([str(CONF / "common.yaml"), str(CONF / f"{conf}.yaml")], ["features.tokenizer=bert"])
    assert (len(config.models) > 1) == (conf == TOGETHER)


def test_a_purchase_is_an_hour_after_the_one_before(tmp_path: Path) -> None:
    write_events({1: [3, 4], 2: [3]}, tmp_path / "events.csv")
    assert (tmp_path / "events.csv").read_text().splitlines() == [
        "user,item,time",
        "u1,i3,2014-01-01T00:00:00",
        "u1,i4,2014-01-01T01:00:00",
        "u2,i3,2014-01-01T00:00:00",
    ]


def test_an_item_gets_its_path_its_price_and_only_what_is_known(tmp_path: Path) -> None:
    told = {
        "1": {"title": "A", "brand": "L&#39;Oreal", "categories": "'Beauty', 'Makeup', 'Nails & More'", "price": "2.5"},
        "2": {"title": "B", "brand": "Unknown", "categories": '"\'Beauty\', ""Women\'s"", \'Soap\'"', "price": ""},
        "3": {
            **{"title": '"C ', "sales_type": ' 20 OZ"', "sales_rank": "Toys", "categories": "9.0"},
            **{"price": "'Beauty', 'Soap'", "brand": "7.5"},
        },
        "4": {"asin": "B0"},
    }
    (tmp_path / "texts.json").write_text(json.dumps(told))
    write_catalogue(tmp_path / "texts.json", tmp_path / "catalogue.json")
    assert [json.loads(line) for line in (tmp_path / "catalogue.json").read_text().splitlines()] == [
        {"item": "i1", "title": "A", "brand": "L'Oreal", "category": "Makeup > Nails & More", "price": 2.5},
        {"item": "i2", "title": "B", "category": "Women's > Soap"},
        {"item": "i3", "title": "C  20 OZ", "category": "Soap", "price": 7.5},
        {"item": "i4"},
    ]
