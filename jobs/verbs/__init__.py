"""On the cluster: pack, evaluate, features and doctor on many nodes."""
