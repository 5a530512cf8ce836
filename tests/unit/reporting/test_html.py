from recsys_spark.reporting.html import Html, bullets, document, table, text, tiles

EVIL = "<b>&\"'"
SAFE = "&lt;b&gt;&amp;&quot;&#x27;"


def test_text_is_escaped_once_and_markup_is_left_alone() -> None:
    assert text(EVIL) == SAFE
    assert text(text(EVIL)) == SAFE
    assert text(Html("<i>x</i>")) == "<i>x</i>"
    assert text(7) == "7"


def test_cells_captions_points_and_titles_are_escaped() -> None:
    parts = [table([EVIL], [[EVIL]], caption=EVIL, row_heads=True), bullets([EVIL]), tiles([(EVIL, EVIL)])]
    page = document(EVIL, EVIL, parts)
    assert EVIL not in page
    assert page.count(SAFE) == 8


def test_columns_and_rows_of_a_table_say_what_they_head() -> None:
    shown = table(["model", "ndcg"], [["gru", "0.5"]], 1, row_heads=True)
    assert '<th scope="col">model</th><th scope="col" class="n">ndcg</th>' in shown
    assert '<tr><th scope="row">gru</th><td class="n">0.5</td></tr>' in shown
