"""The errors that a user of the jobs can meet and mend."""


class UserError(Exception):
    """Bad input or configuration: one sentence that says what, where and what to do (exit code 2)."""
