"""On the cluster: `fit` under Ray Train, with attempts, checkpoints, heartbeat and watchdog."""
