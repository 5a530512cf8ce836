from __future__ import annotations

import pytest

from tests.contract.planted import Shop


@pytest.fixture(scope="session")
def shop(spark, tmp_path_factory):
    """The planted shop; each recommender is fitted once, when a test first asks for it."""
    return Shop(spark, tmp_path_factory.mktemp("planted"))
