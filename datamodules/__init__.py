"""From videos to batches: annotations, shards, the plan of who reads what, clips, decoding, transforms."""
