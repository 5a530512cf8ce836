"""The errors that a user of the jobs can meet and mend."""

from recsys_spark.redaction import covered


class UserError(Exception):
    """Bad input or configuration: one sentence that says what, where and what to do (exit code 2), without secrets."""

    def __str__(self) -> str:
        return covered(super().__str__())
