"""The stage evaluate_models: the fusion is settled on the valid window, then all is measured on the test window."""

from __future__ import annotations

from recsys_spark.datasets.split import TEST
from recsys_spark.evaluation.relevance import exploded_events, fold_users
from recsys_spark.evaluation.report.write import write_report
from recsys_spark.fusion.settings import SETTINGS, write_settings
from recsys_spark.pipeline.measure import log, read_metrics
from recsys_spark.pipeline.passes import FUSED, RULED, list_rows, shipped
from recsys_spark.pipeline.reported import logged_exposures, measured_users, write_metrics
from recsys_spark.pipeline.settle import settle_fusion
from recsys_spark.pipeline.stage import FILES, StageContext, StageResult


def run(context: StageContext) -> StageResult:
    """Tables evaluation_*; the directory `fusion` holds the settled fusion, and report.html tells of it all."""
    settings, search_metrics = settle_fusion(context)
    write_settings(context.new_directory("fusion"), settings)
    model, items = shipped(context, "test", settings)
    exposures = logged_exposures(context)
    users = measured_users(context, exposures)
    lists = list_rows(context, model, "test", TEST, {FUSED: settings}, users)
    rows = context.write_table("evaluation_recommendations", lists)
    context.progress(f"{rows} rows of test lists")
    written = context.written_table("evaluation_recommendations")
    ruled = [RULED] if context.config.rules.on else []
    told = write_metrics(context, users, written, [*context.config.models, FUSED, *ruled], FUSED, items, exposures)
    values = read_metrics(context)
    log(context, values)
    events = exploded_events(context.read_table("histories"))
    counts = fold_users(events, TEST, context.config.evaluation.target_events).first()
    assert counts is not None
    extra = {
        "test.target_users": float(counts["target_users"]),
        "test.users_without_history": float(counts["no_history"]),
    }
    settings_file = context.run_directory / "fusion" / SETTINGS
    report = write_report(context, context.run_directory / "model-test", settings_file, counts.asDict())
    return StageResult(
        metrics={**search_metrics, **values.get(FUSED, {}), **extra},
        facts={"test_metrics": values, "measured": told, FILES: [report]},
    )
