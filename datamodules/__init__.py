"""From videos to batches: lists, packed datasets, epoch plan, decoding, clips. No networks, no ray."""
