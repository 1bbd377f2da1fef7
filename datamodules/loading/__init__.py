"""DataLoader workers that turn requests into `ClipBatch`es; resume, watchdog, shared memory."""
