from __future__ import annotations

import pytest
from pydantic import ValidationError

from recsys_spark.config.neural import Neural
from recsys_spark.config.recommenders import NEURAL, Recommenders

REFUSED = [
    ("mfn", {"loss": "sampled_softmax"}, "neumf takes loss bce"),
    ("mfn", {"dim": 33}, "dim must be even"),
    ("sasrec", {"dim": 63}, "multiple of heads"),
    ("gru", {"loss": "gbce"}, "negatives_power must be 0"),
    ("gru", {"combine": "gate"}, "name more than one item_encoder"),
    ("gru", {"id_dropout": 0.5}, "item_encoder must name id and another"),
    ("gru", {"item_encoder": ["id", "id"]}, "names a part twice"),
    ("gru", {"item_encoder": []}, "at least 1 item"),
    ("gru", {"user_encoder": "id", "time_gaps": True}, "reads no history"),
    ("two_tower", {"temperature": 0.001}, "greater than 0.01"),
]


@pytest.mark.parametrize(("name", "changes", "message"), REFUSED)
def test_what_does_not_fit_together_is_refused(name, changes, message):
    with pytest.raises(ValidationError, match=message):
        Recommenders.model_validate({name: changes})


def test_what_fits_together_is_taken():
    gbce = {"loss": "gbce", "negatives_power": 0, "negatives": 256, "dim": 48, "heads": 3}
    textbook = {"user_encoder": "id", "loss": "bpr"}
    taken = Recommenders.model_validate({"sasrec": gbce, "mfn": textbook, "gru": {"item_encoder": "kim_cnn"}})
    assert taken.gru.item_encoder == ("kim_cnn",)


@pytest.mark.parametrize("name", NEURAL)
def test_a_setting_means_the_same_to_every_neural_recommender(name):
    section = Recommenders.model_fields[name].annotation
    for key, field in Neural.model_fields.items():
        assert section.model_fields[key].description == field.description
