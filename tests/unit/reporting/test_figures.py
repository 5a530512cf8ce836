from recsys_spark.reporting.figures import plain


def test_a_name_is_drawn_letter_by_letter() -> None:
    assert plain("a$b\n") == r"a\$b "
    assert plain("x" * 50) == "x" * 35 + "…"
