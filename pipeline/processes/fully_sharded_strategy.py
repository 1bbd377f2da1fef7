"""`fsdp2`: Lightning's strategy for networks whose parameters, gradients and optimizer are in shards (FSDP2)."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import WeightAveraging
from pytorch_lightning.strategies import ModelParallelStrategy, Strategy, StrategyRegistry
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from lightning_modules.layers.parameter_sharding import (
    gather_parameters,
    is_sharded,
    release_parameters,
    shard_parameters,
)
from lightning_modules.weights.safe_load import load_plain
from lightning_modules.weights.sharded_checkpoint import (
    Keys,
    content_file,
    fill_shards,
    is_sharded_checkpoint,
    map_tensors,
    take_out_shards,
)

NAME = "fsdp2"
_OPTIMIZER_STATES = "optimizer_states"


class ShardedCheckpointIO(Protocol):
    """A checkpoint IO that can write sharded checkpoints."""

    def save_sharded(self, content: dict[str, Any], shards: Mapping[str, Tensor], path: Any) -> None:
        """Saves a checkpoint as `take_out_shards` splits it; a collective."""
        ...


class FullyShardedStrategy(ModelParallelStrategy):
    """Data parallelism in which each rank keeps shards of the parameters, their gradients and the optimizer's state.

    A unit of the network (`sharding_units`) gathers its parameters while it computes. A validation gathers all of them
    once, so that ranks need not have the same number of batches there. Other verbs than `fit` shard nothing.

    Checkpoints are sharded too (`lightning_modules.weights.sharded_checkpoint`); those of any strategy and number of
    ranks are read. Unlike Lightning's strategy, which it extends, it needs no `configure_model`, and works with gloo.

    Args:
        **kwargs: `process_group_backend` and `timeout` of the process group.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(data_parallel_size=1, tensor_parallel_size=1, **kwargs)
        self._fill_optimizer_states: Callable[..., dict[str, Any]] | None = None

    @property
    def restore_checkpoint_after_setup(self) -> bool:
        """False: the optimizer's schedule needs the position in the data, which the checkpoint has."""
        return False

    @property
    def lightning_restore_optimizer(self) -> bool:
        """True: by `load_optimizer_state_dict`."""
        return True

    @property
    def distributed_sampler_kwargs(self) -> dict[str, Any]:
        """Number of ranks, and this rank."""
        return {"num_replicas": self.world_size, "rank": self.global_rank}

    def set_world_ranks(self) -> None:
        """Takes rank and number of ranks from the launcher; all ranks are on one axis."""
        super().set_world_ranks()
        self._data_parallel_size = self.world_size

    def setup(self, trainer: pl.Trainer) -> None:
        """Shards the network, and then creates the optimizer of its shards.

        Raises:
            ValueError: an option of the run that does not work with shards.
        """
        assert self.accelerator is not None
        assert self.lightning_module is not None
        assert self.model is not None
        self.accelerator.setup(trainer)
        is_fit = trainer.state.fn == TrainerFn.FITTING
        if is_fit:
            _refuse_options(trainer, self.lightning_module)
            if self._layer_sync:
                self.model = self._layer_sync.apply(self.model)
        self.model = self.precision_plugin.convert_module(self.model)
        if is_fit:  # unit by unit to the device, which never has the whole network
            shard_parameters(self.lightning_module, self.device_mesh["data_parallel"])
        self.model_to_device()
        self.barrier()
        if is_fit:
            self.setup_optimizers(trainer)
        self.setup_precision_plugin()

    def on_validation_start(self) -> None:
        """Gathers the parameters for the validations of a fit; a collective."""
        if is_sharded(cast(pl.LightningModule, self.lightning_module)):
            gather_parameters(cast(pl.LightningModule, self.lightning_module))

    def on_validation_end(self) -> None:
        """Leaves each rank with its shards again."""
        if is_sharded(cast(pl.LightningModule, self.lightning_module)):
            release_parameters(cast(pl.LightningModule, self.lightning_module))

    # Checkpoints.

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """The state dict, with this rank's shards of the parameters."""
        with torch.inference_mode(False):  # a validation saves, too
            return Strategy.lightning_module_state_dict(self)

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """The state of an optimizer, with this rank's shards."""
        return Strategy.optimizer_state(self, optimizer)

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any | None = None) -> None:
        """Saves a sharded checkpoint by the checkpoint IO; a collective."""
        content, shards = take_out_shards(checkpoint)
        if not shards:
            Strategy.save_checkpoint(self, checkpoint, filepath, storage_options)
            return
        if not hasattr(self.checkpoint_io, "save_sharded"):
            raise ValueError(
                f"trainer.plugins: {type(self.checkpoint_io).__name__} writes no sharded checkpoints, as "
                f"trainer.strategy={NAME} needs; leave it out"
            )
        cast(ShardedCheckpointIO, self.checkpoint_io).save_sharded(content, shards, self.broadcast(filepath))

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Reads a checkpoint, sharded or one file, of any number of ranks: its optimizer's state later, in shards.

        Raises:
            FileNotFoundError: no such file.
            ValueError: not a checkpoint, or damaged.
        """
        path = Path(self.broadcast(checkpoint_path))
        if not is_sharded_checkpoint(path):
            return Strategy.load_checkpoint(self, path, weights_only)  # mapped into memory
        description = f"ckpt_path={str(checkpoint_path)!r}"
        content = load_plain(content_file(path), description, mmap=True)
        optimizer_states = content.pop(_OPTIMIZER_STATES, [])
        self._fill_optimizer_states = partial(fill_shards, path=path, description=description)
        return {**fill_shards(content, path, description), _OPTIMIZER_STATES: optimizer_states}

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Loads the weights, which are not in shards yet."""
        Strategy.load_model_state_dict(self, checkpoint, strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Loads this rank's shards of the optimizers' state.

        Raises:
            ValueError: a sharded checkpoint that is damaged.
        """
        states = {_OPTIMIZER_STATES: checkpoint[_OPTIMIZER_STATES]}
        if self._fill_optimizer_states is not None:
            states = self._fill_optimizer_states(states, target=self._shard_like_parameter)
        else:
            states = map_tensors(states, self._shard_like_parameter)
        groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]
        kernels = [group.get("fused") for group in groups]
        Strategy.load_optimizer_state_dict(self, states)
        groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]
        for group, fused in zip(groups, kernels, strict=True):
            group["fused"] = fused  # that of a network without shards may have no kernel for them

    def _shard_like_parameter(self, keys: Keys, tensor: Tensor) -> Tensor:
        """A tensor of an optimizer's state in the shards of its parameter; a `meta` tensor becomes empty shards."""
        _, optimizer, _, number, *_ = keys
        groups = self.optimizers[cast(int, optimizer)].param_groups
        parameter = [weight for group in groups for weight in group["params"]][cast(int, number)]
        if not isinstance(parameter, DTensor) or parameter.shape != tensor.shape:  # such as the number of steps
            return torch.empty_like(tensor, device="cpu") if tensor.is_meta else tensor
        if tensor.is_meta:
            return torch.empty_like(parameter, dtype=tensor.dtype)
        return distribute_tensor(tensor, parameter.device_mesh, parameter.placements, src_data_rank=None)


def _refuse_options(trainer: pl.Trainer, module: pl.LightningModule) -> None:
    """Raises ValueError for what does not work with sharded parameters."""
    strategy = f"trainer.strategy={NAME}"
    options: Mapping[str, Any] = getattr(module, "hparams", {})
    callbacks: list[pl.Callback] = getattr(trainer, "callbacks", [])
    if any(isinstance(callback, WeightAveraging) for callback in callbacks):
        raise ValueError(
            f"{strategy}: averaging of weights needs a whole copy of them; leave the callback out, or use ddp"
        )
    if trainer.precision == "16-mixed":
        raise ValueError(f"{strategy}, trainer.precision=16-mixed: gradients of shards are not scaled; take bf16-mixed")
    if options.get("compile"):
        raise ValueError(
            f"{strategy}, compile=true: gathering would break the graph at each stage; leave one of them out"
        )
    if options.get("channels_last"):
        raise ValueError(f"{strategy}, channels_last=true: shards have one layout; leave channels_last out")


StrategyRegistry.register(
    NAME, FullyShardedStrategy, description="FSDP2: parameters, gradients and optimizer in shards"
)
