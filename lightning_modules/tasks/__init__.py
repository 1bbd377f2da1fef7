"""LightningModules of the tasks: loss, metrics, optimizer, checkpoint hooks."""
