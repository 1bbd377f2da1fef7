"""Accuracies, confidence intervals, calibration, confusion, and predictions.parquet."""
