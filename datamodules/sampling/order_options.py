"""Options of the order in which an epoch reads the videos."""

from dataclasses import dataclass

from datamodules.options import Options
from datamodules.sampling.class_balance import ClassBalance, Strata
from datamodules.sampling.epoch_plan import Shuffle, TrainPlan


@dataclass(frozen=True, kw_only=True)
class OrderOptions(Options):
    """Order of the videos of an epoch.

    Attributes:
        seed: key of order and augmentation.
        shuffle: `global`; `shards`, where neighbors in a shard are cheap to read together; `none`.
        shard_window: shards shuffled together, for `shuffle: shards`.
        drop_last: leave out the smaller last step of an epoch.
        class_balance: `balanced`, an epoch draws all classes equally often; `sqrt`, in proportion to the square root of
            their numbers of videos; `none`, every video once. The length of the epoch is the number of videos.
    """

    seed: int = 0
    shuffle: Shuffle = "global"
    shard_window: int = 16
    drop_last: bool = False
    class_balance: ClassBalance = "none"

    def check(self) -> None:
        """Raises ValueError where class balance and order do not go together."""
        if self.class_balance != "none" and self.shuffle != "global":
            raise ValueError(
                f"class_balance={self.class_balance!r}, shuffle={self.shuffle!r}: a balanced epoch draws videos of any "
                "shard in any order; use shuffle=global, or class_balance=none"
            )

    def train_plan(
        self,
        num_samples: int,
        batch_size: int,
        world_size: int,
        shard_sizes: tuple[int, ...] = (),
        strata: Strata | None = None,
    ) -> TrainPlan:
        """Which rank reads which video when.

        Args:
            num_samples: videos of the split.
            batch_size: videos that a rank takes in a step.
            world_size: number of ranks.
            shard_sizes: videos of the split in each shard, for `shuffle: shards`.
            strata: videos of the split by class, for `class_balance`.
        """
        return TrainPlan(
            num_samples,
            batch_size,
            world_size,
            self.seed,
            self.shuffle,
            shard_sizes,
            self.shard_window,
            self.drop_last,
            strata,
        )
