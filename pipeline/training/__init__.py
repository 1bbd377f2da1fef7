"""Verbs fit, validate, test and predict: LightningCLI, callbacks and loggers."""
