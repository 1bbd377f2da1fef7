"""Options of `publish`."""

from dataclasses import dataclass
from pathlib import Path

from pipeline.inference.inference_options import CheckpointOptions, OverwriteOptions
from pipeline.publication.licenses import hub_license

_WRITTEN = (  # options of what is written
    *(
        "report",
        "title",
        "license",
        "license_link",
        "data_license",
        "data_source",
        "datasets",
        "intended_use",
        "limits",
    ),
    "training_config",
)


@dataclass(frozen=True)
class PublishOptions(CheckpointOptions, OverwriteOptions):
    """Options of `publish`.

    Attributes:
        checkpoint: file of `fit` or `weights convert`, folder that `publish` wrote, or `hf://ORG/NAME[@REVISION]`.
        out: folder to write: weights as safetensors, config.json, labels.txt, preprocessing.json and the model card.
            Left out, with `push`, where the checkpoint is such a folder: it is then sent as it is.
        report: folders that `evaluate` wrote for this checkpoint: their figures and intervals go into the card.
        title: name of the model in the card; default: that of the folder.
        license: license of the weights, by its identifier on the Hub, such as apache-2.0; with `license_link` any name.
        license_link: for a license that the Hub does not know: its URL, or LICENSE, a file that you put there.
        data_license: license or terms of the training videos.
        data_source: where the training videos are from, such as a URL or a citation.
        datasets: identifiers on the Hub of the data that it was trained on.
        intended_use: what the model is for, as a sentence of the card.
        limits: what it is not for, or does badly, as a sentence of the card.
        training_config: config.yaml of the training; default: the one in the folder of the checkpoint's run.
        training_videos: write fingerprints of the training videos, from which `evaluate` knows them again; whoever has
            a video can tell by them whether it was trained on.
        push: send the folder to this repository on the Hugging Face Hub, ORG/NAME, which is created if there is none.
        private: whether a new repository is private.
    """

    checkpoint: Path
    out: Path | None = None
    report: list[Path] | None = None
    title: str | None = None
    license: str | None = None
    license_link: str | None = None
    data_license: str | None = None
    data_source: str | None = None
    datasets: list[str] | None = None
    intended_use: str | None = None
    limits: str | None = None
    training_config: Path | None = None
    training_videos: bool = True
    push: str | None = None
    private: bool = False

    def check(self) -> None:
        """Raises ValueError if there is nothing to do, for an unknown license, or for options of a folder to write."""
        if self.out is None and self.push is None:
            raise ValueError("give --out, a folder to write, or --push, a repository on the hub, or both")
        given = [name for name in _WRITTEN if getattr(self, name) is not None]
        if self.out is None and given:
            raise ValueError(f"{given[0]}: a published folder is sent as it is; give --out, a folder for the new one")
        if self.license is not None and self.license_link is None:
            hub_license(self.license)
        if self.license is None and self.license_link is not None:
            raise ValueError(f"license_link={self.license_link!r}: give the license's name too, by --license")
