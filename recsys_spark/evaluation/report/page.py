"""The report of an evaluation as one page that stands alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from recsys_spark.evaluation.report.content import FUSED, MAIN_METRIC, MODES, Comparison, Content
from recsys_spark.evaluation.report.fused_parts import fusion_parts
from recsys_spark.evaluation.report.meanings import MEANINGS
from recsys_spark.evaluation.report.parts import comparison_table, metric_table, range_of, segment_table
from recsys_spark.evaluation.report.pictures import DIMENSIONS, Picture
from recsys_spark.evaluation.report.plots import metric_name
from recsys_spark.evaluation.report.user_parts import user_details
from recsys_spark.reporting.html import (
    Html,
    bullets,
    details,
    document,
    picture,
    quiet,
    section,
    table,
    text,
    tiles,
)

STYLE = """
h3 { font-size: 1rem; margin: 1.4rem 0 .3rem } nav { margin: .8rem 0 } nav a { margin-right: .8rem }
details { background: #fff; border: 1px solid #e2e8f0; border-radius: .4rem; padding: .3rem .7rem; margin: .4rem 0 }
summary { cursor: pointer; padding: .2rem 0 } details details { border-width: 0 0 0 .2rem; border-radius: 0 }
mark { background: #fde68a; color: inherit } .tag { font-size: .75rem; color: #475569; white-space: nowrap }
small { color: #475569 } ol { margin: .3rem 0; padding-left: 1.8rem }
pre { overflow-x: auto; font-size: .8rem } thead th { vertical-align: bottom }
tbody th { position: sticky; left: 0; background: #fff }
"""
SECTIONS = {
    "fusion": "What was fused",
    "metrics": "Metrics",
    "comparisons": "The fusion against each recommender",
    "segments": "By segment",
    "learning": "Learning curves",
    "coverage": "Coverage against accuracy",
    "scores": "Scores",
    "users": "Sampled users",
}


def report_page(content: Content, pictures: Mapping[str, Picture]) -> str:
    """HTML without anything from elsewhere; `pictures` are what `draw` made. All text of the data is escaped."""
    said = " · ".join(f"{name} {value}" for name, value in content.about.items())
    bodies = {
        "fusion": _fusion(content),
        "metrics": _metrics(content, pictures),
        "comparisons": _comparisons(content, pictures),
        "segments": _segments(content, pictures),
        "learning": _learning(content, pictures),
        "coverage": _coverage(pictures),
        "scores": _scores(content, pictures),
        "users": _users(content),
    }
    links = "".join(f'<a href="#{anchor}">{text(title)}</a>' for anchor, title in SECTIONS.items())
    body = [
        f"<h1>Evaluation</h1>{quiet(said)}",
        *_verdict(content),
        _numbers(content),
        f'<nav aria-label="Sections">{links}</nav><main>',
        *(section(anchor, SECTIONS[anchor], parts) for anchor, parts in bodies.items()),
        "</main>",
    ]
    return document("Evaluation", said, body, STYLE)


def _verdict(content: Content) -> Iterator[str]:
    """Does the fusion beat every single recommender, in each mode."""
    said = {mode: _sentence(content, mode) for mode in content.modes}
    kinds = {kind for kind, _ in said.values()}
    kind = next((name for name in ("stop", "warn") if name in kinds), "ok")
    sentences = [Html(f"<b>{MODES[mode].capitalize()}:</b> {text(sentence)}") for mode, (_, sentence) in said.items()]
    yield f'<div class="verdict {kind}">{bullets(sentences)}</div>'


def _sentence(content: Content, mode: str) -> tuple[str, str]:
    name, rows = metric_name(MAIN_METRIC, content.k), content.against(mode)
    own = {row.model: row.value for row in content.main(mode)}
    if not rows or any(not row.verdict for row in rows):
        best = next((model for model in content.ordered(mode) if model in content.models), None)
        if FUSED not in own or best is None:
            return "warn", "the fusion was not measured."
        return "warn", (
            f"{name} of the fusion is {own[FUSED]:.4f}, of the best recommender ({best}) {own[best]:.4f}. "
            "No intervals were measured, so nothing is said of chance."
        )
    closest = min(rows, key=lambda row: row.difference)
    told = f"{closest.difference:+.4f}, {range_of(closest.low, closest.high)}"
    if all(row.verdict == "better" for row in rows):
        return (
            "ok",
            f"the fusion is better than every recommender by {name}; the closest is {closest.against} ({told}).",
        )
    worse = _names(rows, "worse")
    if worse:
        return "stop", f"the fusion is worse than {worse} by {name}; against {closest.against} it is {told}."
    near = _names(rows, "not told apart")
    return "warn", f"the fusion is not told apart from {near} by {name}; against {closest.against} it is {told}."


def _names(rows: Iterable[Comparison], verdict: str) -> str:
    return ", ".join(row.against for row in rows if row.verdict == verdict)


def _numbers(content: Content) -> Html:
    shown: list[tuple[str, str]] = []
    for mode in content.modes:
        for row in content.main(mode):
            if row.model == FUSED:
                shown.append(
                    (f"{metric_name(MAIN_METRIC, content.k)} of the fusion, {MODES[mode]}", f"{row.value:.4f}")
                )
                shown.append((f"users measured, {MODES[mode]}", f"{row.users:,}"))
    shown += [
        ("users with a target event in the test window", f"{content.counts['target_users']:,}"),
        ("of them without a history", f"{content.counts['no_history']:,}"),
    ]
    return tiles(shown)


def _fusion(content: Content) -> Iterator[str]:
    for mode, settings in content.fusions.items():
        yield f"<h3>{text(MODES.get(mode, mode).capitalize())}: {text(settings.get('method', ''))}</h3>"
        yield from fusion_parts(settings)
    yield details("What was read", [table(("what", "version"), content.versions.items(), row_heads=True)])


def _metrics(content: Content, pictures: Mapping[str, Picture]) -> Iterator[str]:
    yield from _drawn(pictures, ["ndcg", "recall"])
    if any(row.low is not None for row in content.metrics):
        yield quiet(f"Lines are {content.confidence:.0%} intervals by a Poisson bootstrap over users.")
    else:
        yield quiet("Without intervals: none were measured (evaluation.bootstrap is 0).")
    for mode in content.modes:
        for k in sorted({row.k for row in content.metrics}):
            first = mode == content.modes[0] and k == content.k
            yield details(f"Every metric at {k}, {MODES[mode]}", [metric_table(content, mode, k)], first)
    found = {row.metric for row in content.metrics}
    meanings = [f"{metric}: {meaning}" for metric, meaning in MEANINGS.items() if metric in found]
    yield details("What the metrics mean", [bullets(meanings)])


def _comparisons(content: Content, pictures: Mapping[str, Picture]) -> Iterator[str]:
    if not content.comparisons:
        yield quiet("Nothing was compared.")
        return
    yield from _drawn(pictures, ["differences"])
    yield quiet("Paired by user. Not told apart: the interval holds zero.")
    for mode in content.modes:
        of_mode = [row for row in content.comparisons if row.repeats == mode]
        main = [row for row in of_mode if (row.metric, row.k) == (MAIN_METRIC, content.k)]
        name = metric_name(MAIN_METRIC, content.k)
        fused = sorted((row for row in main if row.model == FUSED), key=lambda row: row.difference)
        others = [row for row in main if row.model != FUSED]
        if fused:
            yield comparison_table(fused, f"{name} of the fusion minus that of each, {MODES[mode]}")
        if others:
            yield comparison_table(others, f"{name} of each minus that of popularity, {MODES[mode]}")
        rest = [row for row in of_mode if row.model == FUSED and row not in main]
        if rest:
            yield details(f"The fusion by the other metrics, {MODES[mode]}", [comparison_table(rest, "", metrics=True)])


def _segments(content: Content, pictures: Mapping[str, Picture]) -> Iterator[str]:
    if not content.segments:
        yield quiet("Nothing was measured by segment.")
    for dimension in content.divided:
        for mode in content.modes:
            yield from _drawn(pictures, [f"{dimension}_{mode}"])
            rows = segment_table(content, dimension, mode)
            if rows:
                yield details(f"Every recommender by {DIMENSIONS.get(dimension, dimension)}, {MODES[mode]}", [rows])


def _learning(content: Content, pictures: Mapping[str, Picture]) -> Iterator[str]:
    yield from _drawn(pictures, ["learning"])
    if content.curves:
        yield quiet("Of the fits on the train window; the dashed line is the epoch that was taken.")
    else:
        yield quiet("No recommender told a learning curve.")


def _coverage(pictures: Mapping[str, Picture]) -> Iterator[str]:
    yield from _drawn(pictures, ["coverage"])


def _scores(content: Content, pictures: Mapping[str, Picture]) -> Iterator[str]:
    yield from _drawn(pictures, [f"scores_{mode}" for mode in content.modes])
    yield quiet("Each on its own scale; up to 0.5 % of the scores on each side lie outside of what is drawn.")
    rows = [
        (each.model, MODES[each.repeats], f"{each.lists:,}", f"{each.rows:,}", f"{each.beyond:,}")
        for each in content.scores
    ]
    head = ("model", "repeats", "lists", "scores", "not drawn")
    yield details("Lists and scores", [table(head, rows, 2, row_heads=True)])


def _users(content: Content) -> Iterator[str]:
    bought = " or ".join(content.targets)
    yield quiet(
        f"{len(content.users)} of the users whom the metrics are about, drawn by the hash of their id. Lists as they "
        f"were measured, {MODES[content.list_mode]}, up to 10 places. Marked is what the user bought in the test "
        f"window (bought: {bought})."
    )
    for user in content.users:
        yield user_details(user)


def _drawn(pictures: Mapping[str, Picture], names: Iterable[str]) -> Iterator[str]:
    for name in names:
        if name in pictures:
            shown = pictures[name]
            yield picture(shown.title, shown.png, shown.says, "h3")
