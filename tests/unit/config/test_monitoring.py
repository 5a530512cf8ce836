"""Limits of monitoring: what is refused, and what is left of the defaults."""

import pytest
from pydantic import ValidationError

from recsys_spark.config.alerting import OnAlert
from recsys_spark.config.monitoring import Monitoring
from recsys_spark.monitoring.kinds import KINDS, Limit

VOLUME = KINDS["events.volume_ratio"]


def test_limits_that_are_not_given_stay_the_kinds():
    limits = Monitoring.model_validate({"limits": {"events.volume_ratio": {"alert": 9}}}).judged_by()
    assert limits == {"events.volume_ratio": Limit(VOLUME.warn, 9.0)}


def test_null_switches_a_limit_off():
    limits = Monitoring.model_validate({"limits": {"events.volume_ratio": {"alert": None}}}).judged_by()
    assert limits == {"events.volume_ratio": Limit(VOLUME.warn, None)}


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"events.volumes": {"warn": 2}}, "events.volumes: no such kind of measure; known are events."),
        ({"events.volume_ratio": {"warn": 0.5}}, "must be above 1"),
        ({"events.type_mix": {"warn": 0.5, "alert": 0.4}}, r"alert \(0.4\) would come before warn \(0.5\)"),
        ({"events.category_left": {"warn": 0.1, "alert": 0.2}}, r"alert \(0.2\) would come before warn \(0.1\)"),
        ({"events.type_mix": {"warm": 0.5}}, "Extra inputs"),
        ({"events.type_mix": {"warn": -1}}, "greater than or equal to 0"),
    ],
)
def test_limits_that_make_no_sense_are_refused(limits, message):
    with pytest.raises(ValidationError, match=message):
        Monitoring.model_validate({"limits": limits})


@pytest.mark.parametrize("day", ["25.12.", "13-01", "2017-02-29", "12-5"])
def test_a_closed_day_that_is_none_is_refused(day):
    with pytest.raises(ValidationError, match="is no day like 12-25 or 2017-11-23"):
        Monitoring(closed_days=(day,))


@pytest.mark.parametrize("action", ["block_publication", "roll_back"])
def test_an_action_is_of_known_kinds_or_of_all(action):
    assert getattr(OnAlert.model_validate({action: ["*"]}), action) == ("*",)
    with pytest.raises(ValidationError, match=r"events\.volumes: no such kind of measure; known are \* \(all"):
        OnAlert.model_validate({action: ["events.type_mix", "events.volumes"]})
