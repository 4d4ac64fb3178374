"""Process ranks, job queues and sweeps."""
