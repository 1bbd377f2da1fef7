"""`ShardedVideoDataModule`: shards to batches, for training, validation, test and feature export."""

from dataclasses import asdict
from functools import cached_property
from typing import Any

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.trainer.states import TrainerFn

from datamodules.batch import ClipBatch
from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.dataset.renditions import WantedRendition, open_rendition
from datamodules.loading.loader_options import WorkerStart, check_options, choose_decoder, warn_of_decord
from datamodules.loading.planned_loader import PlannedLoader
from datamodules.loading.resume import dataset_state, resume_point, sampling_options
from datamodules.loading.split_loaders import SplitLoaders, TestSampling
from datamodules.loading.training_progress import TrainingProgress
from datamodules.sampling.clip_sampling import ClipShape, ShortVideos
from datamodules.sampling.epoch_plan import Shuffle
from datamodules.storage.remote_files import split_root
from datamodules.transforms.color_jitter import ColorJitter
from datamodules.transforms.device_augmentation import Augmentation
from datamodules.transforms.flip_safety import SidedClasses, unmirrored_labels
from datamodules.transforms.rand_augment import RandAugment
from datamodules.transforms.three_crops import cut_crops
from datamodules.transforms.yuv420 import Pixels, to_rgb
from datamodules.video.decoding import Decoder


class ShardedVideoDataModule(pl.LightningDataModule):
    """Reads a packed dataset; every rank takes the same number of steps, evaluation sees every video exactly once.

    Rank and world size come from the trainer, in this process, never from a DataLoader worker. The order of an epoch
    and the augmentation depend on `seed` and the epoch alone. The state in a checkpoint is global: a run resumes at the
    exact sample, also with another number of ranks or workers.

    Args:
        root: folder of the packed dataset, with index.parquet and dataset.json; or its URL, http(s)://, s3:// (pip
            install s3fs), gs:// (gcsfs) or another that fsspec knows. Videos are read from there one by one.
        batch_size: videos a rank takes in a step; evaluation takes at most as many, bounded by `eval_batch_bytes`.
        num_frames: frames of a clip, T.
        frame_interval: source frames from one frame of a clip to the next.
        fps: take frames at this rate instead of `frame_interval`.
        short_videos: what to do with a video shorter than a clip: `loop`, `repeat_last` or `error`.
        segments: a clip is one frame of each of `num_frames` equal parts of the video, a random one in training (TSN).
        crop_size: height and width of a clip, in pixels.
        resize: short side before cropping, or [height, width] as C3D's 128 x 171; default: as stored.
        rendition: which of the sizes that the dataset was packed in is read: its short side, or `auto`, the smallest
            that is at least as large as `resize` asks for (the largest where `resize` is null). A run resumes on the
            rendition it was trained on, and may be evaluated on any.
        random_resized_crop: in training, crop a random area and shape and resize it, instead of a random place.
        flip_probability: in training, mirror a clip left to right.
        sided_classes: what mirroring means for classes whose names say left or right: `refuse` to train; `keep` them
            as they are and mirror others; `mirror` them too; or the list of the classes that are never mirrored.
        rand_augment: in training, RandAugment on the device; null for none.
        color_jitter: in training, color jitter on the device, after RandAugment; null for none.
        clips_per_video: in training, clips taken from one reading of a video.
        val_num_clips: clips a video in validation.
        test_sampling: clips of tests and of prediction: `uniform`, `num_clips` spread evenly; `dense`, `clip_step`
            apart; `whole`, all of the video as one clip, for networks that take any number of frames.
        num_clips: clips a video in tests, spread evenly.
        num_crops: spatial crops a clip in tests, 1 or 3; `num_clips * num_crops` views are averaged.
        clip_step: for prediction (feature export), and for tests that are `dense`, take clips this many source frames
            apart instead of `num_clips`.
        max_frames: for `whole`, frames of a clip at most, which bounds memory: a longer video gives several, evenly.
        still: every clip repeats one of its frames: a control for what can be told without motion.
        captions: batches carry the videos' captions too (class names where there are none), for networks that describe.
        num_workers: DataLoader processes a rank; 0 reads in this process.
        worker_start: how they start. `fork` is quick and unsafe beside threads, which Ray and CUDA have.
        worker_timeout_s: seconds that reading one video may take before its worker counts as stuck, and the run ends
            with the video's key; 0 for no limit.
        prefetch_factor: batches a worker reads ahead.
        seed: key of order and augmentation.
        shuffle: `global`; `shards`, where neighbors in a shard are cheap to read together; `none`.
        shard_window: shards shuffled together, for `shuffle: shards`.
        drop_last: leave out the smaller last step of an epoch.
        decoder: `auto` takes torchcodec where it imports, else PyAV, and says so. decord is taken by its name alone: it
            crashes on some damaged files, so name it for shards that `pack` encoded.
        pixels: how clips travel to the device: `rgb`; or `i420`, planar YUV 4:2:0 as decoded, half the bytes, which is
            converted to the same RGB there, quickly on a GPU. Needs PyAV (`auto` takes it) and videos stored at the
            size that is cropped; batches with others travel in RGB.
        train_split: split to train on.
        val_split: split to validate on; null for none. A dataset with folds has none.
        test_split: split to test on.
        predict_split: split to export features of.
        fold: which fold holds the test videos, for datasets with folds.
        max_skipped_fraction: share of an epoch's videos that may fail to decode in training before the run ends.
        allow_missing: in tests and predictions, leave out videos that cannot be decoded and name them in their batch,
            instead of ending.
        eval_batch_bytes: bound on the clips of an evaluation batch, in bytes.
        cache_dir: folder on a local disk that keeps the videos read from a URL, for all ranks and workers of the node,
            from epoch to epoch and run to run; null keeps none. A `root` that is a folder is read where it lies.
        cache_bytes: bound on the size of `cache_dir`; what was not used for longest leaves first.
        remote_reads: reads from a URL that each worker has under way at a time.
        remote_read_bytes: bound on the bytes of videos that each worker reads from a URL ahead of decoding them.
        resume_on_other_data: let a run resume on other videos than its checkpoint was trained on: another dataset, of
            which the epoch that was left then sees every video, or another split, fold or order.

    Attributes:
        already_predicted: rows of the index that prediction leaves out, set before its loader is made; None for none.

    Raises:
        ValueError: an argument out of range, a split, fold or rendition that does not exist, too few videos, a flip
            that would turn one class into another, sampling options that do not go together.
        ShardFormatError: the folder holds no whole dataset.
    """

    def __init__(
        self,
        root: str,
        batch_size: int = 8,
        num_frames: int = 16,
        frame_interval: int = 1,
        fps: float | None = None,
        short_videos: ShortVideos = "loop",
        segments: bool = False,
        crop_size: int = 112,
        resize: int | tuple[int, int] | None = None,
        rendition: WantedRendition = "auto",
        random_resized_crop: bool = False,
        flip_probability: float = 0.5,
        sided_classes: SidedClasses = "refuse",
        rand_augment: RandAugment | None = None,
        color_jitter: ColorJitter | None = None,
        clips_per_video: int = 1,
        val_num_clips: int = 1,
        test_sampling: TestSampling = "uniform",
        num_clips: int = 10,
        num_crops: int = 1,
        clip_step: int | None = None,
        max_frames: int = 512,
        still: bool = False,
        captions: bool = False,
        num_workers: int = 2,
        worker_start: WorkerStart = "forkserver",
        worker_timeout_s: int = 300,
        prefetch_factor: int = 2,
        seed: int = 0,
        shuffle: Shuffle = "global",
        shard_window: int = 16,
        drop_last: bool = False,
        decoder: Decoder = "auto",
        pixels: Pixels = "rgb",
        train_split: str = "train",
        val_split: str | None = "val",
        test_split: str = "test",
        predict_split: str = "test",
        fold: str | int | None = None,
        max_skipped_fraction: float = 0.01,
        allow_missing: bool = False,
        eval_batch_bytes: int = 2**26,
        cache_dir: str | None = None,
        cache_bytes: int = 50 * 2**30,
        remote_reads: int = 8,
        remote_read_bytes: int = 2**26,
        resume_on_other_data: bool = False,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        check_options(self.hparams)
        self.root = split_root(root)
        self.shape = ClipShape(num_frames, frame_interval, fps, short_videos, segments)
        self.augmentation = Augmentation(rand_augment, color_jitter)
        self.hparams.update(asdict(self.augmentation))  # plain data, because checkpoints hold nothing else
        self.decoder = choose_decoder(decoder, pixels)
        self.already_predicted: np.ndarray | None = None
        self._progress = TrainingProgress()

    @cached_property
    def index(self) -> DatasetIndex:
        """The index of the dataset, of the rendition that is read; opened at first use."""
        hp = self.hparams
        names = ("cache_dir", "cache_bytes", "remote_reads", "remote_read_bytes")
        index = open_rendition(self.root, hp["rendition"], hp["resize"], **{name: hp[name] for name in names})
        warn_of_decord(self.decoder, index)
        return index

    @property
    def class_names(self) -> list[str]:
        """Names of the K classes, in label order; the model takes them from here."""
        return self.index.classes

    @property
    def training_captions(self) -> list[str]:
        """All captions of the training split, as batches carry them; networks that describe learn their words here."""
        rows = self.index.readable_rows(self.hparams["train_split"], self.hparams["fold"])
        captions, labels = self.index.column("captions", rows), self.index.column("label", rows)
        return [one for of, label in zip(captions, labels, strict=True) for one in of or [self.class_names[label]]]

    @property
    def identity(self) -> dict[str, Any]:
        """What a checkpoint, a prediction or a feature file says about its data; see `datamodules.loading.resume`."""
        return dataset_state(self.index, self.root, self.hparams, self.decoder)

    def setup(self, stage: str) -> None:
        """Opens the index and refuses what cannot work, before the first batch."""
        if stage == TrainerFn.FITTING:
            unmirrored_labels(self.class_names, self.hparams["flip_probability"], self.hparams["sided_classes"])

    def on_after_batch_transfer(self, batch: ClipBatch, dataloader_idx: int) -> ClipBatch:
        """Makes RGB of planes, cuts the crops of tests, changes training clips; on the device, nothing twice."""
        return self.augmentation(cut_crops(to_rgb(batch)))

    def train_dataloader(self) -> PlannedLoader:
        """Random clips; the same number of steps on every rank."""
        loaders = self._loaders
        return loaders.training(self._progress.begin(loaders, self.trainer))

    def val_dataloader(self) -> PlannedLoader | list[Any]:
        """Evenly spread clips of the validation split; no loader where `val_split` is null."""
        return [] if self.hparams["val_split"] is None else self._loaders.validation()

    def test_dataloader(self) -> PlannedLoader:
        """All views of the test split, every video once."""
        return self._loaders.test()

    def predict_dataloader(self) -> PlannedLoader:
        """All clips of the split to export, every video once."""
        return self._loaders.prediction(self.already_predicted)

    @property
    def _loaders(self) -> SplitLoaders:
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        return SplitLoaders(self.index, self.hparams, self.shape, self.decoder, rank, world_size)

    def share_of_epoch(self, steps: int) -> float:
        """The share of the epoch's samples that all ranks together have trained on after `steps` of its steps."""
        return self._progress.share_of_epoch(steps)

    def samples_seen(self, steps: int) -> int:
        """Training videos that all ranks together have had, of all epochs, `steps` steps of this one done."""
        return self._progress.samples_seen(steps)

    def state_dict(self) -> dict[str, Any]:
        """Where training stands, for all ranks together: what a checkpoint says."""
        data = {"dataset": self.identity, "order": sampling_options(self.hparams)}
        return data | self._progress.state(self._loaders, self.trainer)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up where a checkpoint was written; only when training resumes."""
        if self.trainer is None or self.trainer.state.fn != TrainerFn.FITTING or "epoch" not in state_dict:
            return
        self._progress.resume = resume_point(state_dict, self.identity, self.hparams)
