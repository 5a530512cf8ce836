from recsys_spark.evaluation.report.curves import learning_curves

TOLD = {
    ("r1", "select.loss"): [(0, 0.5), (20, 0.75), (10, 1.0), (20, 0.5)],
    ("r1", "select.valid_ndcg_at_10"): [(20, 0.25), (0, 0.25)],
    ("r2", "select.loss"): [(0, 0.5)],
}


def test_a_curve_is_in_the_order_of_steps_and_a_step_told_again_counts_once() -> None:
    parts = {
        "gru": {"run_id": "r1", "fits": {"select": {"best_epoch": 1}}},
        "als": {"run_id": "r2", "fits": {"select": {"loss": 0.5}}},
        "popularity": {"run_id": "r3"},
    }
    [curve] = learning_curves(parts, lambda run, name: TOLD.get((run, name), []))
    assert curve.model == "gru"
    assert curve.loss == [(10, 1.0), (20, 0.5)]
    assert curve.ndcg == [(20, 0.25)]
    assert curve.best_epoch == 1
