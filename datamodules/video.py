"""`ShardedVideoDataModule`: shards to batches, for training, validation, test and feature export."""

import logging
import multiprocessing
from dataclasses import asdict, replace
from functools import cache, cached_property
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn

from datamodules.augmentation import Augmentation
from datamodules.batch import ClipBatch
from datamodules.batch_requests import EvaluationRequests, ResumePoint, TrainRequests
from datamodules.clip_reader import ClipReader
from datamodules.clips import ClipSampler, ClipShape, Method, ShortVideos
from datamodules.color_jitter import ColorJitter
from datamodules.crops import cut_crops
from datamodules.decoding import describe_decoder, resolve_decoder
from datamodules.feed import PlannedLoader
from datamodules.plan import Shuffle, TrainPlan
from datamodules.planar import Pixels, refuse_resized, refuse_unlike_pixels, to_rgb
from datamodules.rand_augment import RandAugment
from datamodules.remote_shards import split_root
from datamodules.renditions import WantedRendition, open_rendition
from datamodules.resuming import refuse_other_data
from datamodules.seen_videos import SeenVideos
from datamodules.shards import DatasetIndex
from datamodules.sided_classes import SidedClasses, unmirrored_labels
from datamodules.transforms import EvalTransform, TrainTransform

_log = logging.getLogger(__name__)

Decoder = Literal["auto", "pyav", "decord", "torchcodec"]
TestSampling = Literal["uniform", "dense", "whole"]
WorkerStart = Literal["fork", "forkserver", "spawn"]


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
        allow_missing: in tests, leave out videos that cannot be decoded and name them in their batch, instead of
            ending.
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
        for name in ("batch_size", "clips_per_video", "val_num_clips", "num_clips", "crop_size"):
            if self.hparams[name] < 1:
                raise ValueError(f"{name}={self.hparams[name]}: must be at least 1")
        if clip_step is not None and clip_step < 1:
            raise ValueError(f"clip_step={clip_step}: must be at least 1, or null")
        for name in ("cache_bytes", "remote_reads", "remote_read_bytes"):
            if self.hparams[name] < 1:
                raise ValueError(f"{name}={self.hparams[name]}: must be at least 1")
        for name in ("num_workers", "worker_timeout_s"):
            if self.hparams[name] < 0:
                raise ValueError(f"{name}={self.hparams[name]}: must be at least 0")
        _refuse_unlike_samplings(test_sampling, clip_step, segments, num_frames, max_frames)
        self.root = split_root(root)
        self.shape = ClipShape(num_frames, frame_interval, fps, short_videos, segments)
        self.augmentation = Augmentation(rand_augment, color_jitter)
        # Plain data, because checkpoints hold nothing else.
        self.hparams["rand_augment"] = asdict(rand_augment) if rand_augment else None
        self.hparams["color_jitter"] = asdict(color_jitter) if color_jitter else None
        refuse_unlike_pixels(pixels, decoder, random_resized_crop)
        self.decoder = resolve_decoder("pyav" if pixels == "i420" else decoder)
        if decoder == "auto":
            _say_once(f"decoder auto: {describe_decoder(self.decoder)}")
        self.already_predicted: np.ndarray | None = None
        self._resume = ResumePoint()
        self._train_requests: TrainRequests | None = None
        self._usual_reload: int | None = None

    @cached_property
    def index(self) -> DatasetIndex:
        """The index of the dataset, of the rendition that is read; opened at first use."""
        hp = self.hparams
        names = ("cache_dir", "cache_bytes", "remote_reads", "remote_read_bytes")
        index = open_rendition(self.root, hp["rendition"], hp["resize"], **{name: hp[name] for name in names})
        if self.decoder == "decord" and not index.manifest.encoded_by_us:
            rank_zero_warn(
                f"decoder='decord': the videos of {index.name} were not encoded by `pack`, and decord takes its "
                "process down on some damaged files; decoder='pyav' does not"
            )
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
        """What a checkpoint, a prediction or a feature file says about the data it comes from.

        `identity` is that of the rendition which is read, and what resuming is held against: other bytes would be
        another training. `family` is the same for all renditions of a dataset, and so are the row numbers of a video:
        by it `evaluate` knows what a checkpoint has seen, whichever rendition it is scored on.
        """
        return {
            "name": self.index.name,
            "identity": self.index.identity,
            "family": self.index.manifest.family,
            "rendition": self.index.manifest.encode.get("short_side"),
            "root": str(self.root),
            "train_split": self.hparams["train_split"],
            "fold": None if self.hparams["fold"] is None else str(self.hparams["fold"]),
            "decoder": describe_decoder(self.decoder),
        }

    def setup(self, stage: str) -> None:
        """Opens the index and refuses what cannot work, before the first batch."""
        if stage == TrainerFn.FITTING:
            self._unmirrored(self.hparams["sided_classes"])

    def _unmirrored(self, sided_classes: SidedClasses) -> frozenset[int]:
        return unmirrored_labels(self.class_names, self.hparams["flip_probability"], sided_classes)

    def on_after_batch_transfer(self, batch: ClipBatch, dataloader_idx: int) -> ClipBatch:
        """Makes RGB of planes, cuts the crops of tests, changes training clips; on the device, nothing twice."""
        return self.augmentation(cut_crops(to_rgb(batch)))

    def train_dataloader(self) -> PlannedLoader:
        """Random clips; the same number of steps on every rank."""
        hp = self.hparams
        rows = self.index.rows(hp["train_split"], hp["fold"])
        plan = TrainPlan(
            len(rows),
            hp["batch_size"],
            self._world_size,
            hp["seed"],
            hp["shuffle"],
            self.index.shard_sizes(rows) if hp["shuffle"] == "shards" else (),
            hp["shard_window"],
            hp["drop_last"],
        )
        self._train_requests = TrainRequests(plan, self._rank, self._resume)
        if self.trainer:
            self._train_requests.set_epoch(max(self._resume.epoch, self.trainer.current_epoch))
            self._ask_again_next_epoch(len(self._train_requests) != plan.num_steps())
        transform = TrainTransform(hp["crop_size"], hp["resize"], hp["random_resized_crop"], hp["flip_probability"])
        sampler = ClipSampler(self.shape, "random", hp["clips_per_video"], still=hp["still"])
        # `setup` has refused what is to be refused; a loader that was asked for without it mirrors no sided class.
        unmirrored = self._unmirrored("keep" if hp["sided_classes"] == "refuse" else hp["sided_classes"])
        reader = replace(self._reader(rows, sampler, transform), skip_errors=True, unmirrored=unmirrored)
        self._say_left_out(rows, hp["train_split"])
        max_skipped = int(hp["max_skipped_fraction"] * len(rows) / self._world_size)
        return PlannedLoader(reader, self._train_requests, max_skipped, **self._worker_options)

    def _ask_again_next_epoch(self, needed: bool) -> None:
        """Makes Lightning reload after an epoch that was begun with other ranks or another batch size.

        The next epoch has another length, and Lightning asks for the length only when it reloads.
        """
        name = "reload_dataloaders_every_n_epochs"  # an attribute that the trainer's __init__ does not declare
        if needed:
            self._usual_reload = getattr(self.trainer, name)
            setattr(self.trainer, name, 1)
        elif self._usual_reload is not None:
            setattr(self.trainer, name, self._usual_reload)
            self._usual_reload = None

    def val_dataloader(self) -> PlannedLoader | list[Any]:
        """Evenly spread clips of the validation split; no loader where `val_split` is null."""
        if self.hparams["val_split"] is None:
            return []
        return self._evaluation_loader(self.hparams["val_split"], "uniform", self.hparams["val_num_clips"], 1)

    def test_dataloader(self) -> PlannedLoader:
        """All views of the test split, every video once."""
        hp = self.hparams
        views = (hp["test_sampling"], hp["num_clips"], hp["num_crops"])
        return self._evaluation_loader(hp["test_split"], *views, allow_missing=hp["allow_missing"])

    def predict_dataloader(self) -> PlannedLoader:
        """All clips of the split to export, every video once."""
        hp = self.hparams
        sampling: TestSampling = hp["test_sampling"] if hp["clip_step"] is None else "dense"
        split, done = hp["predict_split"], self.already_predicted
        return self._evaluation_loader(split, sampling, hp["num_clips"], hp["num_crops"], done=done)

    def _evaluation_loader(
        self,
        split: str,
        method: Method,
        num_clips: int,
        num_crops: int,
        allow_missing: bool = False,
        done: np.ndarray | None = None,
    ) -> PlannedLoader:
        hp = self.hparams
        rows = self.index.readable_rows(split, hp["fold"])
        if done is not None:
            rows = np.setdiff1d(rows, done, assume_unique=True)
        self._say_left_out(self.index.rows(split, hp["fold"]), split)
        if method == "dense":  # the longest video says how many clips there can be
            num_clips = -(-int(np.max(self.index.column("num_frames", rows), initial=1)) // hp["clip_step"])
        sampler = ClipSampler(self.shape, method, num_clips, hp["clip_step"] or 1, hp["still"], hp["max_frames"])
        transform = EvalTransform(hp["crop_size"], hp["resize"], num_crops)
        reader = replace(self._reader(rows, sampler, transform), skip_errors=allow_missing)
        video_bytes = num_clips * num_crops * hp["num_frames"] * hp["crop_size"] ** 2 * 3
        # Whole videos differ in length: each is a batch.
        batch_size = 1 if method == "whole" else max(1, min(hp["batch_size"], hp["eval_batch_bytes"] // video_bytes))
        requests = EvaluationRequests(len(rows), batch_size, self._rank, self._world_size)
        return PlannedLoader(reader, requests, len(rows) if allow_missing else 0, **self._worker_options)

    def _reader(self, rows: np.ndarray, sampler: ClipSampler, transform: TrainTransform | EvalTransform) -> ClipReader:
        hp = self.hparams
        decoding = (self.decoder, hp["seed"], False, hp["crop_size"])
        if hp["pixels"] == "i420" and len(rows):
            sizes = (np.asarray(self.index.column(name, rows)) for name in ("height", "width"))
            if count := refuse_resized(transform, *sizes):
                _say_once(f"pixels='i420': {count} of {len(rows)} videos are resized; batches with them travel in RGB")
        return ClipReader(self.index, rows, sampler, transform, *decoding, captions=hp["captions"], pixels=hp["pixels"])

    def _say_left_out(self, rows: np.ndarray, split: str) -> None:
        quarantined = self.index.quarantined
        count = int(np.isin(quarantined, rows, assume_unique=True).sum()) if len(quarantined) else 0
        if count:
            _say_once(f"{self.index.name}: {count} of {len(rows)} videos of {split} are quarantined and not read")

    @property
    def _rank(self) -> int:
        return self.trainer.global_rank if self.trainer else 0

    @property
    def _world_size(self) -> int:
        return self.trainer.world_size if self.trainer else 1

    @property
    def _worker_options(self) -> dict[str, Any]:
        hp = self.hparams
        if hp["num_workers"] == 0:
            return {"num_workers": 0}
        context = multiprocessing.get_context(hp["worker_start"])
        if hp["worker_start"] == "forkserver":
            # Imported once by the server, before it forks: a worker then starts in milliseconds.
            context.set_forkserver_preload([ClipReader.__module__])
        return {
            "num_workers": hp["num_workers"],
            "multiprocessing_context": context,
            "persistent_workers": True,
            "prefetch_factor": hp["prefetch_factor"],
            "timeout_s": hp["worker_timeout_s"],
        }

    def share_of_epoch(self, steps: int) -> float:
        """The share of the epoch's samples that all ranks together have trained on after `steps` of its steps."""
        if self._train_requests is None:
            return 0.0
        return self._train_requests.point_after(steps).consumed / self._train_requests.plan.num_samples

    def samples_seen(self, steps: int) -> int:
        """Training videos that all ranks together have had, of all epochs, `steps` steps of this one done."""
        if self._train_requests is None:
            return 0
        point = self._train_requests.point_after(steps)
        return point.epoch * self._train_requests.plan.num_samples + point.consumed

    def state_dict(self) -> dict[str, Any]:
        """Where training stands, for all ranks together: what a checkpoint says.

        Counted from the trainer's batches that were trained on, not from those that were read ahead.
        """
        state: dict[str, Any] = {"dataset": self.identity, "order": self._order}
        if self._train_requests is not None and self.trainer is not None:
            progress = self.trainer.fit_loop.epoch_loop.batch_progress.current
            steps: int = progress.processed  # type: ignore[attr-defined] # declared as the class above its own
            point = self._train_requests.point_after(steps)
            state |= {"epoch": point.epoch, "consumed": point.consumed, "steps": point.steps}
            if self._rank == 0:  # the one that writes
                state["seen"] = self._seen.state()
        return state

    @cached_property
    def _seen(self) -> SeenVideos:
        """What is trained on, so that `evaluate` knows it in other datasets too."""
        return SeenVideos.of(self.index, self.index.rows(self.hparams["train_split"], self.hparams["fold"]))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up where a checkpoint was written; only when training resumes."""
        if self.trainer is None or self.trainer.state.fn != TrainerFn.FITTING or "epoch" not in state_dict:
            return
        if self.hparams["resume_on_other_data"]:
            if state_dict["dataset"]["identity"] != self.index.identity:  # nothing of these has been seen
                self._resume = ResumePoint(state_dict["epoch"], 0, state_dict["steps"])
                return
        else:
            refuse_other_data(state_dict, self.identity, self._order, self.hparams["rendition"])
        self._resume = ResumePoint(state_dict["epoch"], state_dict["consumed"], state_dict["steps"])

    @property
    def _order(self) -> dict[str, Any]:
        """What the order of videos and the augmentation follow from; `scheme` changes when the arithmetic does."""
        hp = self.hparams
        window = hp["shard_window"] if hp["shuffle"] == "shards" else None
        return {"scheme": 1, "seed": hp["seed"], "shuffle": hp["shuffle"], "shard_window": window}


@cache
def _say_once(message: str) -> None:
    """Once in each process, and only on the first rank."""
    rank_zero_info(message)


def _refuse_unlike_samplings(
    test_sampling: TestSampling, clip_step: int | None, segments: bool, num_frames: int, max_frames: int
) -> None:
    if test_sampling == "dense" and clip_step is None:
        raise ValueError("test_sampling='dense': set clip_step, the source frames from clip to clip")
    if test_sampling == "whole" and clip_step is not None:
        raise ValueError(f"test_sampling='whole', clip_step={clip_step}: give one of them")
    if test_sampling == "whole" and max_frames < num_frames:
        raise ValueError(f"max_frames={max_frames}: must be at least num_frames={num_frames}")
    if segments and (test_sampling != "uniform" or clip_step is not None):
        raise ValueError("segments=true: its clips span the whole video; use test_sampling='uniform' and no clip_step")
