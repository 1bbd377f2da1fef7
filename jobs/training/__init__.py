"""Cluster side: `fit` under Ray Train, with attempts, checkpoints, heartbeat and watchdog."""
