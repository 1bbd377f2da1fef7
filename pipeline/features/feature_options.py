"""Options of `features`."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from pipeline.features.feature_files import Dtype, Format
from pipeline.features.layer_features import Pooling, RowUnit
from pipeline.inference.inference_options import InferenceOptions, OverwriteOptions, SplitFileOptions
from pipeline.inference.protocols import TransferProtocolName
from pipeline.inference.video_file_index import VideoFileOptions


@dataclass(frozen=True)
class FeatureOptions(InferenceOptions, SplitFileOptions, OverwriteOptions, VideoFileOptions):
    """Options of `features`.

    Attributes:
        checkpoint: file that `fit` wrote, folder that `publish` wrote or hf://ORG/NAME[@REVISION], or a name that
            `python -m pipeline weights list` prints.
        data: folder of the packed dataset; its classes may differ from the checkpoint's. Or give videos.
        out: the file to write; an existing file with the same settings is kept.
        split: videos to export. Default: test, or all where the dataset is not divided.
        fold: fold of datasets with folds; default: the fold the checkpoint was trained in.
        layer: names of endpoints of the network; default: the network's own choice, such as C3D's fc6. Several layers
            get a column each, feature_NAME.
        pool: mean or max over time and space, or mean_max, both; time keeps the time steps (mean over space); none
            keeps all. The shape of the features is in the metadata.
        per: one row per video, the mean over its views; one per clip, with its start and end in seconds; or both.
        protocol: use layer and clips of a paper; options given explicitly take precedence.
        format: parquet; npz (one array per column); or webdataset, a tar with KEY.npy and KEY.json for each video.
        dtype: type of the features' numbers: float32, or float16 at half the size.
    """

    checkpoint: Path
    data: Path | None = None
    _: KW_ONLY
    out: Path
    split: str | None = None
    fold: str | None = None
    layer: list[str] | None = None
    pool: Pooling = "mean"
    per: RowUnit = "video"
    protocol: TransferProtocolName | None = None
    format: Format = "parquet"
    dtype: Dtype = "float32"

    def check(self) -> None:
        """Raises ValueError unless there is one source of videos, or for options that plain video files do not have."""
        if (self.data is None) == (self.videos is None):
            raise ValueError(
                "give either data, the folder of a packed dataset, or videos, video files or their folders"
            )
        for name in ("split", "fold", "split_file", "rendition"):
            if self.videos is not None and getattr(self, name) is not None:
                raise ValueError(f"{name}={getattr(self, name)!r}: plain video files have no {name}; leave it out")
