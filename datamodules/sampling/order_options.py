"""Options of the order in which an epoch reads the videos."""

from dataclasses import dataclass

from datamodules.options import Options
from datamodules.sampling.epoch_plan import Shuffle, TrainPlan


@dataclass(frozen=True, kw_only=True)
class OrderOptions(Options):
    """Order of the videos of an epoch.

    Attributes:
        seed: key of order and augmentation.
        shuffle: `global`; `shards`, where neighbors in a shard are cheap to read together; `none`.
        shard_window: shards shuffled together, for `shuffle: shards`.
        drop_last: leave out the smaller last step of an epoch.
    """

    seed: int = 0
    shuffle: Shuffle = "global"
    shard_window: int = 16
    drop_last: bool = False

    def train_plan(
        self, num_samples: int, batch_size: int, world_size: int, shard_sizes: tuple[int, ...] = ()
    ) -> TrainPlan:
        """Which rank reads which video when.

        Args:
            num_samples: videos of the split.
            batch_size: videos that a rank takes in a step.
            world_size: number of ranks.
            shard_sizes: videos of the split in each shard, for `shuffle: shards`.
        """
        return TrainPlan(
            num_samples, batch_size, world_size, self.seed, self.shuffle, shard_sizes, self.shard_window, self.drop_last
        )
