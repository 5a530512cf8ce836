"""Cards say in Markdown what a model is."""

from recsys_spark.tracking.cards import ModelCard


def test_a_version_tells_what_it_is_its_metrics_and_how_to_load_it(card):
    text = card.version_description("recsys-fused", "3", "sqlite:////w/mlflow.db", {"data_version": "7"})
    for expected in (
        "Popular items first.",
        "8 purchases of 3 users. Events before 2024-03-01T00:00:00 (UTC).",
        "| metric | @10 | @20 | @10 without repeats |",
        "| ndcg | 0.2500 | 0.5000 | 0.1250 |",
        "| half_life_days | 7.0 |",
        "| data_version | 7 |",
        'mlflow.pyfunc.load_model("models:/recsys-fused/3")',
        'mlflow.set_tracking_uri("sqlite:////w/mlflow.db")',
    ):
        assert expected in text


def test_a_card_without_metrics_says_so():
    card = ModelCard(title="t", what="w", trained_on="x", trained_until="2024-01-01")
    assert "Not measured yet." in card.version_description("recsys-t", "1", "uri")


def test_a_long_card_fits_into_the_registry_and_keeps_how_to_load():
    settings = {f"key_{number}": "x" * 50 for number in range(500)}
    card = ModelCard(title="t", what="w", trained_on="x", trained_until="2024-01-01", settings=settings)
    text = card.version_description("recsys-t", "1", "uri")
    assert len(text) <= 5000
    assert "load_model" in text
    assert text.endswith("(Cut here: the rest stands among the run's parameters.)")


def test_a_cell_cannot_break_its_table(card):
    text = card.version_description("recsys-fused", "1", "uri", {"note": "a|b\nc"})
    assert "| note | a/b c |" in text
