"""What makes the jobs safe under any scheduler: a lock with a lease, attempts, catching up, a record of every run."""
