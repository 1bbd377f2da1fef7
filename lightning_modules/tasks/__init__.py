"""LightningModules around the networks: loss, metrics, optimizer, checkpoint hooks."""
