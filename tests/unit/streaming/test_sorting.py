"""What becomes of the rows of a micro-batch."""

from __future__ import annotations

from recsys_spark.streaming.sorting import Moment, live_events, sort_rows
from tests.live_shop import AS_OF, judged_rows, line

NOW = Moment(taken_at=AS_OF + 100, newest=AS_OF + 50, lateness=60.0, ahead=10.0)


def test_every_row_becomes_one_of_three_and_the_counts_say_so() -> None:
    rows = judged_rows(
        [line(1, "ann", "i01"), line(1, "ann", "i01"), line(2, "bob", "i02"), line(3, "", ""), line(4, "cat", "i03")],
        [None, None, None, "missing_user_id\x1fmissing_item_id", None],
    )
    found = sort_rows(rows, 9, NOW, known={"e00004"})
    facts = {name: found.facts[name] for name in ("rows", "accepted", "duplicates", "quarantined", "late", "refused")}
    assert facts == {
        "rows": 5, "accepted": 2, "duplicates": 2, "quarantined": 1, "late": 0, "refused": ["e00003"]
    }  # fmt: skip
    assert found.events["event_id"].to_pylist() == ["e00001", "e00002"]
    assert found.events["batch"].to_pylist() == [9, 9]
    [bad] = found.quarantine.to_pylist()
    assert bad["reasons"] == ["missing_user_id", "missing_item_id"]
    assert "e00003" in bad["raw"]


def test_what_is_older_than_the_watermark_or_ahead_of_the_clock_is_quarantined() -> None:
    times = {1: -10.0, 2: -10.25, 3: 110.0, 4: 110.25}  # the watermark is at -10, the clock at 100
    found = sort_rows(judged_rows([line(n, "ann", "i01", after=time) for n, time in times.items()]), 1, NOW, set())
    assert found.events["event_id"].to_pylist() == ["e00001", "e00003"]
    assert [row["reasons"] for row in found.quarantine.to_pylist()] == [["too_late"], ["future_time"]]
    assert (found.facts["late"], found.facts["newest"]) == (1, AS_OF + 110)


def test_the_first_batch_knows_no_late_events_and_quarantined_times_move_no_watermark() -> None:
    first = Moment(AS_OF, None, 60.0, 10.0)
    rows = judged_rows([line(1, "ann", "i01", after=-9e6), line(2, "ann", "i01", after=5)], [None, "test_account"])
    found = sort_rows(rows, 1, first, set())
    assert (found.facts["accepted"], found.facts["newest"]) == (1, AS_OF - 9e6)


def test_an_id_that_a_batchs_event_could_have_is_refused() -> None:
    found = sort_rows(judged_rows([line(1, "ann", "i01", after=60) | {"event_id": "#1"}]), 1, NOW, set())
    assert [row["reasons"] for row in found.quarantine.to_pylist()] == [["bad_event_id"]]


def test_whatever_the_order_in_which_files_are_read_the_same_row_of_an_id_counts() -> None:
    one = judged_rows([line(1, "ann", "i01", after=60), line(1, "ann", "i02", after=60)])
    other = one.take([1, 0])
    assert sort_rows(one, 1, NOW, set()).events.equals(sort_rows(other, 1, NOW, set()).events)


def test_events_come_in_the_order_of_histories_with_our_types_and_one_of_each() -> None:
    lines = [line(2, "ann", "i01", "wishlist", after=60.5), line(1, "ann", "i02", after=60.5, quantity=3.0)]
    events = live_events(sort_rows(judged_rows(lines), 1, NOW, set()).events)
    assert [(each.event_id, each.event_type, each.quantity) for each in events] == [
        ("e00001", "purchase", 3.0), ("e00002", "other", 1.0)
    ]  # fmt: skip
    assert events[0].event_time == AS_OF + 60.5
