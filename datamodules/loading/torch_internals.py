"""What is used of torch that is not its public interface; read in torch 2.13.0, where a test looks at it again."""

import torch


def shared_storage(num_bytes: int) -> torch.UntypedStorage:
    """Memory that other processes can map, as the collation of torch's DataLoader workers makes it."""
    storage: torch.UntypedStorage = torch.UntypedStorage._new_shared(num_bytes)  # type: ignore[no-untyped-call]
    return storage
