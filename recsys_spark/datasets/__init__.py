"""Training datasets: histories split by time, the user-item matrix and sequences, and the Petastorm boundary."""
