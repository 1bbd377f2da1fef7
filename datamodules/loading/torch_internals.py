"""Private functions of torch that are used here, as of torch 2.13.0; a test checks them."""

import torch


def shared_storage(num_bytes: int) -> torch.UntypedStorage:
    """Allocates shared memory in the same way as the collation of torch's DataLoader workers."""
    storage: torch.UntypedStorage = torch.UntypedStorage._new_shared(num_bytes)  # type: ignore[no-untyped-call]
    return storage
