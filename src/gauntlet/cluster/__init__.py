"""Which of several processes this is, job queues, and sweeps."""
