"""From raw logs to clean events."""
