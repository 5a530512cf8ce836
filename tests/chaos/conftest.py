"""The planted dataset of the training tests."""

from tests.unit.training.conftest import make_spec, planted

__all__ = ["make_spec", "planted"]
