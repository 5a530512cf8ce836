"""Which days a run that catches up has to do, in order."""

from __future__ import annotations

from datetime import date, timedelta


def days_to_do(last_done: date | None, until: date, daily: bool) -> list[date]:
    """The days from the one after the last that is done up to `until`, each to be run by itself; never none.

    Where nothing tells on which day rows arrived (`daily` is false), or no day was done yet, one run takes in
    everything up to `until`: that day alone is returned. The same where `until` is done already: it was asked for.
    """
    if last_done is None or not daily or last_done >= until:
        return [until]
    return [last_done + timedelta(days=number) for number in range(1, (until - last_done).days + 1)]
