"""Verbs on packed datasets: verify, index, quarantine, stats, plan, show; and synthesize."""
