"""`VideoClassifier`: the LightningModule of all video classifiers, with loss, metrics and averaging over views."""

from collections.abc import Mapping, Sequence
from typing import Any

from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor
from torchmetrics import MeanMetric

from datamodules.batch import ClipBatch
from datamodules.device_transfer import move_to_device
from lightning_modules.tasks.classification_loss import ClassificationLoss, ClassWeights, balanced_class_weights
from lightning_modules.tasks.frame_labels import known_frames, refuse_labels_by_time
from lightning_modules.tasks.label_task import Task, refuse_other_task, refuse_unknown_task, scores_loss
from lightning_modules.tasks.metrics import classification_metrics, frame_metrics, multi_label_metrics
from lightning_modules.tasks.mixup_cutmix import MixUpCutMix, draw_mix
from lightning_modules.tasks.video_scores import VideoScores


class VideoClassifier(VideoScores):
    """Base class of video classifiers: a network of named stages, its training and its evaluation.

    uint8 clips to the device ─▶ `normalize` ─▶ stages, each a named feature ─▶ logits per clip ─▶ softmax, or sigmoid
    with several labels a video ─▶ mean over a video's views ─▶ scores. A subclass sets `self.stages`, an
    `nn.Sequential` whose children's names are the endpoints and whose last child returns the logits, and takes plain
    arguments, so that `--help` lists them and checkpoints contain only plain data.

    Args:
        task: what the labels are: `single_label`, one class a video (softmax, cross entropy); or `multi_label`, any
            number of classes a video (a sigmoid a class, binary cross entropy). `python -m pipeline fit` takes it from
            the dataset.
        label_smoothing: fraction of the target spread evenly, in [0, 1): over all classes; with several labels, over
            yes and no of each class.
        class_weights: weights of the classes in the training loss: `balanced`, n / (K n_c) for a class with n_c of n
            training videos, as scikit-learn's, or with several labels a video, (n - n_c) / n_c for the positives of
            the class; `none`, all 1.
        class_frequencies: fraction of the training videos in each class, for `class_weights`; `fit` takes them from
            the dataset.
        focal_gamma: gamma of the focal loss (Lin et al. 2017), which gives clips that are classified well already less
            weight; 0 is the cross entropy.
        mixup_alpha: MixUp: blend training clips in pairs, with shares drawn from Beta(alpha, alpha); 0 disables it.
        cutmix_alpha: CutMix: paste a patch of one training clip into another, with its area drawn from Beta(alpha,
            alpha); 0 disables it. With both, each batch takes one of them.
        mix_probability: fraction of the training batches that are mixed, if MixUp or CutMix is enabled.
        **kwargs: arguments of `VideoNetwork`; `class_names` or `num_classes` is required.

    Raises:
        ValueError: an argument is out of range, or `class_names` and `num_classes` are both missing or contradict.
    """

    def __init__(
        self,
        task: Task = "single_label",
        label_smoothing: float = 0.0,
        class_weights: ClassWeights = "none",
        class_frequencies: Sequence[float] | None = None,
        focal_gamma: float = 0.0,
        mixup_alpha: float = 0.0,
        cutmix_alpha: float = 0.0,
        mix_probability: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if self.num_classes < 1 and kwargs.get("class_names") is not None:
            raise ValueError(
                "class_names=[]: the videos have no labels, from which a classifier learns; pack a list with a column "
                "label, or train a Video2Vec, which needs none"
            )
        if self.num_classes < 1:
            raise ValueError(f"num_classes={kwargs.get('num_classes')}: give a number of at least 1, or class_names")
        refuse_unknown_task(task)
        self.task: Task = task
        self.loss = ClassificationLoss(label_smoothing, focal_gamma, multi_label=task == "multi_label")
        self.class_weights = class_weights
        if class_frequencies is not None:
            self._weigh_classes(class_frequencies)
        for name, value in (("mixup_alpha", mixup_alpha), ("cutmix_alpha", cutmix_alpha)):
            if value < 0:
                raise ValueError(f"{name}={value}: must be at least 0")
        if not 0 <= mix_probability <= 1:
            raise ValueError(f"mix_probability={mix_probability}: must be from 0 to 1")
        self.mixing = (mixup_alpha, cutmix_alpha, mix_probability)
        metrics = multi_label_metrics if task == "multi_label" else classification_metrics
        self.train_metrics = metrics(self.num_classes, "train")
        self.val_metrics = metrics(self.num_classes, "val")
        self.test_metrics = metrics(self.num_classes, "test")
        self.val_loss = MeanMetric()
        self._latest: tuple[Tensor, Tensor] | None = None  # logits and labels of the training step

    def label_frames(self, is_causal: bool) -> None:
        """Declares, in the constructor of a subclass, that the last stage returns logits of each frame, (N, T, K).

        The network then learns and is validated frame by frame where labels have times; elsewhere each frame learns the
        label of its video, and the scores of a video are the mean over its frames.
        """
        self.labels_frames, self.is_causal = True, is_causal
        if self.task == "single_label":
            self.val_metrics, self.test_metrics = (frame_metrics(self.num_classes, name) for name in ("val", "test"))

    def setup(self, stage: str) -> None:
        """Computes the class weights from the training split, unless its frequencies were given.

        Raises:
            ValueError: videos have no label, as of official test lists; labels have times, and the network gives none
                to frames, or mixes clips; `class_weights` is `balanced`, and the frequencies of the classes are not
                known.
        """
        data, verb = getattr(self.trainer, "datamodule", None), TrainerFn(stage).value
        count_unlabelled = getattr(data, "count_unlabelled", None)
        if getattr(data, "has_timelines", False) and verb != "predict":
            refuse_labels_by_time(type(self).__name__, self.labels_frames, self.mixing)
        count = 0 if count_unlabelled is None or verb == "predict" else count_unlabelled(verb)
        if count:
            raise ValueError(f"{verb}: {count} videos of its splits have no label; choose other splits")
        if stage == TrainerFn.FITTING and self.class_weights == "balanced" and self.loss.weights is None:
            frequencies = getattr(data, "class_frequencies", None)
            if frequencies is None:
                raise ValueError(
                    "class_weights='balanced', class_frequencies=None: give the fraction of the training videos in "
                    "each class; the data module does not know it"
                )
            self._weigh_classes(frequencies)
        super().setup(stage)

    def _weigh_classes(self, frequencies: Sequence[float]) -> None:
        if len(frequencies) != self.num_classes or not all(0 <= frequency <= 1 for frequency in frequencies):
            raise ValueError(
                f"class_frequencies={list(frequencies)}: must be {self.num_classes} numbers in [0, 1], one a class"
            )
        self.hparams["class_frequencies"] = list(frequencies)  # for the checkpoint
        if self.class_weights == "balanced":
            weights = balanced_class_weights(frequencies, multi_label=self.task == "multi_label")
            self.loss.weights = weights.to(self.mean.device)

    def training_step(self, batch: ClipBatch, batch_idx: int) -> Tensor:
        """Mean loss of the clips with their videos' labels, or of mixed clips with the labels of both, by share.

        Of a network that `labels_frames` it is the mean loss of the frames with a label. Training metrics compare a
        mixed clip with the labels that have the larger share in it.
        """
        if batch.num_videos == 0:
            return self.zero_loss(batch, self.clip_logits)
        x, labels = self.normalize(batch), self._clip_labels(batch)
        targets = labels
        mix = self._draw_mix(x, batch_idx)
        if mix is not None:
            x, targets = mix.clips(x), mix.targets(labels, self.num_classes)
            labels = mix.dominant(labels)
        if self.labels_frames and batch.frame_labels is None:
            labels, targets = (each.repeat_interleave(x.shape[2], dim=0) for each in (labels, targets))
        loss, logits = self.loss_and_logits(x, targets)
        self._latest = logits.detach(), labels
        self.log_loss(loss, len(x))
        return loss

    def loss_and_logits(self, x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Mean loss of normalized clips, float (N, C, T, H, W), or of their frames, and the logits of these, (M, K)."""
        logits = self.clip_logits(x)
        if self.labels_frames:
            logits = logits.flatten(0, 1)
            return self.loss.of_known(logits, targets), logits
        return self.loss(logits, targets), logits

    def on_train_batch_end(self, outputs: Tensor | Mapping[str, Any] | None, batch: ClipBatch, batch_idx: int) -> None:
        """Updates the training metrics, when the device has the backward pass to do already."""
        super().on_train_batch_end(outputs, batch, batch_idx)
        if self._latest is not None:
            logits, labels = self._latest
            self._latest = None
            self.train_metrics.update(self.probabilities(logits.float()), labels)

    def on_train_epoch_end(self) -> None:
        """Logs the training metrics."""
        super().on_train_epoch_end()
        self.log_dict(self.train_metrics)

    def _draw_mix(self, x: Tensor, batch_idx: int) -> MixUpCutMix | None:
        mix = draw_mix(self.seed_key(batch_idx), len(x), (x.shape[3], x.shape[4]), *self.mixing)
        return None if mix is None else mix._replace(partners=move_to_device(mix.partners, x.device))

    def validation_step(self, batch: ClipBatch, batch_idx: int) -> None:
        """Updates the metrics of the validation split, once per video, or per frame with a label."""
        if batch.num_videos > 0:
            scores, labels = self._scored(batch)
            self.val_metrics.update(scores, labels)
            if self.labels_frames:
                scores, labels = known_frames(scores, labels)
            if len(labels):
                self.val_loss.update(scores_loss(scores, labels, self.task), weight=len(labels))

    def on_validation_epoch_end(self) -> None:
        """Logs loss and metrics of the validation split."""
        self.log("val/loss", self.val_loss)
        self.log_dict(self.val_metrics, prog_bar=True)

    def test_step(self, batch: ClipBatch, batch_idx: int) -> None:
        """Updates the metrics of the test split, a video or a frame of its views once."""
        if batch.num_videos > 0:
            self.test_metrics.update(*self._scored(batch))

    def on_test_epoch_end(self) -> None:
        """Logs the metrics of the test split."""
        self.log_dict(self.test_metrics)

    def _scored(self, batch: ClipBatch) -> tuple[Tensor, Tensor]:
        """Scores and labels of the videos of a batch, or where labels have times, of the frames of all views."""
        if batch.frame_labels is None or not self.labels_frames:
            return self.video_scores(batch), self._labels(batch)
        return self.frame_scores(batch).flatten(0, 1), self._clip_labels(batch)

    def _clip_labels(self, batch: ClipBatch) -> Tensor:
        """The labels of the clips, (N,) or (N, K), or where they have times, of all frames, (N T,) or (N T, K)."""
        labels = self._labels(batch)
        if batch.frame_labels is None or not self.labels_frames:
            return labels[batch.video_index]
        return batch.frame_labels.flatten(0, 1)

    def _labels(self, batch: ClipBatch) -> Tensor:
        """The labels of a batch; raises ValueError if they are not those of the network's task."""
        found: Task = "multi_label" if batch.labels.ndim == 2 else "single_label"
        refuse_other_task("the network", self.task, "the batch", found, f"make the network with task={found!r}")
        return batch.labels

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses, when a run goes on or is tested, a checkpoint that was trained for another task.

        Raises:
            ValueError: one has a class a video, the other several labels.
        """
        super().on_load_checkpoint(checkpoint)
        saved = checkpoint.get("classifier", {}).get("init_args", {}).get("task", "single_label")
        remedy = (
            "choose a dataset of the checkpoint's task, or train on this one (`fit`, from these weights with "
            "--model.init_args.weights)"
        )
        refuse_other_task("ckpt_path: the checkpoint", saved, "the dataset", self.task, remedy)

    def predict_step(self, batch: ClipBatch, batch_idx: int) -> dict[str, Any]:
        """The keys, rows and scores, float32 (B, K), of a batch's videos, and which could not be decoded."""
        scores = self.video_scores(batch)
        return {"keys": batch.keys, "rows": batch.rows, "scores": scores, "failed": batch.failed}
