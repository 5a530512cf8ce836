"""Real time, Spark's side: live events are read, cleaned, taken in micro-batch by micro-batch, and change lists."""
