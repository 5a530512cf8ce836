"""One pass over users: fitted models meet histories inside Spark tasks, and lists come out."""
