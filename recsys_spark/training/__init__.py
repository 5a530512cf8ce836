"""Training of the networks: the worker's loop, its checkpoints, and the launch from the driver."""
