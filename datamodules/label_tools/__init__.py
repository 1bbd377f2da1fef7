"""Lists that label tools export: Label Studio, FiftyOne, VIA 3."""
