"""`ExportedClassifier`: an exported program in the place of a network, for `classify` and `evaluate`."""

from typing import Any, NamedTuple, Self

from torch import Tensor, nn

from datamodules.batch import ClipBatch
from lightning_modules import VideoClassifier
from lightning_modules.tasks.input_normalization import refuse_unfinished_clips
from lightning_modules.tasks.label_task import Task
from lightning_modules.tasks.video_scores import average_views
from pipeline.exported_models.model_folder import ModelDescription
from pipeline.exported_models.programs import Program
from pipeline.linear.feature_classifier import FeatureClassifier


class FeatureHead(NamedTuple):
    """The linear classifier of an exported model, and the metadata of its file."""

    classifier: FeatureClassifier
    metadata: dict[str, Any]


class ExportedClassifier(VideoClassifier):
    """A program that computes what the network that it was exported from does; for inference alone.

    It averages views as every `VideoClassifier`; with a linear classifier it averages features, which are classified
    afterwards.

    Args:
        class_names: the K class names in label order.
        task: whether a video has one class or several labels.

    Attributes:
        description: what the program takes and gives.
        head: the linear classifier of its features; None if it gives logits.
    """

    description: ModelDescription
    head: FeatureHead | None
    _program: Program

    def __init__(self, class_names: list[str], task: Task) -> None:
        super().__init__(class_names=class_names, task=task)
        self.stages = nn.Sequential()

    @classmethod
    def from_program(cls, program: Program, description: ModelDescription, head: FeatureHead | None) -> Self:
        """A classifier of a program, in evaluation mode; not by `__init__`, whose arguments Lightning copies."""
        classifier = cls(list(description.classes), description.task)
        classifier._program, classifier.description, classifier.head = program, description, head
        return classifier.eval()

    @property
    def runtime(self) -> str:
        """What runs the program, with version."""
        return self._program.runtime

    def forward(self, batch: ClipBatch) -> Tensor:
        """What is averaged over the views: logits, (N, K), or features, (N, D), of the clips of a batch.

        Raises:
            ValueError: clips of another length or size than the program takes.
        """
        return self.run(batch)[1]

    def run(self, batch: ClipBatch) -> tuple[Tensor, Tensor]:
        """Both outputs of the program, see `ModelDescription`.

        Raises:
            ValueError: clips of another length or size than the program takes.
        """
        refuse_unfinished_clips(batch)
        shape = self.description.input_shape
        if any(isinstance(size, int) and size != found for size, found in zip(shape, batch.clips.shape, strict=True)):
            frames, height, width = batch.clips.shape[1:4]
            raise ValueError(
                f"clips of {frames} frames of {height} x {width} pixels: this program was exported for clips of "
                f"{shape[1]} frames of {shape[2]} x {shape[3]}; leave out options that change the clips, or export a "
                "network that was trained on such clips"
            )
        return self._program(batch.clips)

    def view_means(self, batch: ClipBatch) -> Tensor:
        """Means over the views of each of B videos, float32 (B, K), or of features, float32 (B, D)."""
        return super().view_means(batch) if self.head is None else average_views(batch, self._view_logits(batch))

    def scores_of(self, means: Tensor) -> Tensor:
        """Class probabilities, float32 (B, K), from `view_means`."""
        return super().scores_of(means) if self.head is None else self.head.classifier.scores_of(means)

    def default_views(self) -> dict[str, Any]:
        """Views of a video where none are chosen, as options of `evaluate`: those of a linear classifier's features."""
        if self.head is None:
            return {}
        sampling = self.head.metadata["train"]["sampling"]
        if sampling["clip_step"] is not None:
            return {"clip_step": sampling["clip_step"]}
        if sampling["num_clips"] is not None:
            return {"num_clips": sampling["num_clips"]}
        return {"whole": True, "max_frames": sampling["max_frames"]}

    def refuse_options(self, average: str | None, precision: str) -> None:
        """Raises ValueError for options of `evaluate` that the program does not have: other averages and precisions."""
        if self.head is not None and average == "logits":
            raise ValueError(f"average={average!r}: a linear classifier averages features; leave it out")
        if precision != "32-true":
            raise ValueError(
                f"precision={precision!r}: the program computes in {self.description.precision}; leave it out, and "
                "give --precision to `export`"
            )

    def provenance(self) -> dict[str, Any]:
        """What computed the scores, as plain data: program, runtime, and the checkpoint that it was exported from."""
        of_program = {"format": self.description.format, "precision": self.description.precision}
        exported_from = {name: self.description.checkpoint[name] for name in ("name", "sha256", "network")}
        return {**of_program, "runtime": self.runtime, "exported_from": exported_from}
