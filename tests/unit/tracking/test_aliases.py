"""Champions are moved together, and their files are those that were registered."""

from __future__ import annotations

import pytest

from recsys_spark.errors import UserError
from recsys_spark.recommenders.bundle import MANIFEST, file_sha256
from recsys_spark.tracking.aliases import aliased, model_directory, registered, set_champions
from recsys_spark.tracking.registry import register


@pytest.fixture(scope="module")
def versions(tracker, model_directory, histories, card):
    content = f"recsys-aliased-{file_sha256(model_directory / MANIFEST)[:16]}"
    tags = {"stage.train_models": "4", "component.gru": "gru/7", "model_version": content}
    with tracker.start("fused") as run:
        first = register(tracker, run, "recsys-aliased", model_directory, card, tags, histories, None)
        client = tracker.client
        wrong = client.create_model_version(
            "recsys-aliased", registered(tracker, "recsys-aliased", first).source, tags={"model_version": "x-beef"}
        )
        client.create_registered_model("recsys-part")
        client.create_model_version("recsys-part", "somewhere")
    yield first, str(wrong.version)
    set_champions(tracker, {}, {"recsys-aliased": first, "recsys-part": "1"})  # the tracker is everybody's


def test_who_is_champion_is_told_with_what_it_is_made_of(tracker, versions):
    assert aliased(tracker, "recsys-aliased", "champion") is None
    set_champions(tracker, {"recsys-aliased": versions[0], "recsys-part": "1"}, {})
    champion = aliased(tracker, "recsys-aliased", "champion")
    assert (champion.version, champion.pins, champion.parts) == (versions[0], {"train_models": 4}, {"gru": 7})
    assert aliased(tracker, "recsys-part", "champion").version == "1"


def test_a_component_that_the_new_champion_lacks_is_champion_no_more(tracker, versions):
    set_champions(tracker, {"recsys-aliased": versions[0], "recsys-part": "1"}, {})
    set_champions(tracker, {"recsys-aliased": versions[1]}, {"recsys-part": "1"})
    assert aliased(tracker, "recsys-aliased", "champion").version == versions[1]
    assert aliased(tracker, "recsys-part", "champion") is None


def test_nothing_moves_where_a_version_is_gone(tracker, versions):
    set_champions(tracker, {"recsys-aliased": versions[0]}, {})
    with pytest.raises(UserError, match="recsys-part/9 is gone"):
        set_champions(tracker, {"recsys-aliased": versions[1], "recsys-part": "9"}, {})
    assert aliased(tracker, "recsys-aliased", "champion").version == versions[0]


def test_the_files_are_those_that_were_registered_or_refused(tracker, versions, tmp_path):
    good, bad = (registered(tracker, "recsys-aliased", version) for version in versions)
    assert (model_directory(tracker, good, tmp_path) / "fusion.json").is_file()
    with pytest.raises(UserError, match="are not those that were registered"):
        model_directory(tracker, bad, tmp_path)
