"""Child processes that end when they hang, and what this machine has."""
