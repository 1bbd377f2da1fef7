"""From videos to batches: lists, packed datasets, epoch plan, decoding, clips. No networks, no ray.

`datamodules.ShardedVideoDataModule` is imported when it is asked for: a process that needs one sub-package, such as a
worker of the DataLoader or a child that decodes, must not load all of them.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datamodules.datamodule import ShardedVideoDataModule

__all__ = ["ShardedVideoDataModule"]


def __getattr__(name: str) -> Any:
    if name == "ShardedVideoDataModule":
        from datamodules.datamodule import ShardedVideoDataModule

        return ShardedVideoDataModule
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
