"""Options of `features`."""

from dataclasses import dataclass
from pathlib import Path

from pipeline.features.feature_files import Dtype, Format
from pipeline.features.layer_features import Pooling, RowUnit
from pipeline.inference.inference_options import InferenceOptions
from pipeline.inference.protocols import TransferProtocolName


@dataclass(frozen=True)
class FeatureOptions(InferenceOptions):
    """Options of `features`.

    Attributes:
        checkpoint: file that `fit` wrote, or a name that `python -m pipeline weights list` prints.
        data: folder of the packed dataset; its classes may differ from the checkpoint's.
        out: the file to write; an existing file with the same settings is kept.
        split: videos to export. Default: test, or all where the dataset is not divided.
        fold: fold of datasets with folds; default: the fold the checkpoint was trained in.
        split_file: name, path or URL of the split file whose splits or folds are taken; packed: those in the index.
            Default: the one that the checkpoint was trained with, if the dataset is the same.
        layer: names of endpoints of the network; default: the network's own choice, such as C3D's fc6. Several layers
            get a column each, feature_NAME.
        pool: mean or max over time and space; time keeps the time steps (mean over space); none keeps all. The shape
            of the features is in the metadata.
        per: one row per video, the mean over its views; one per clip, with its start and end in seconds; or both.
        protocol: use layer and clips of a paper; options given explicitly take precedence.
        format: parquet; npz (one array per column); or webdataset, a tar with KEY.npy and KEY.json for each video.
        dtype: type of the features' numbers: float32, or float16 at half the size.
        overwrite: replace a file, or parts of an unfinished export, of other settings.
    """

    checkpoint: Path
    data: Path
    out: Path
    split: str | None = None
    fold: str | None = None
    split_file: str | None = None
    layer: list[str] | None = None
    pool: Pooling = "mean"
    per: RowUnit = "video"
    protocol: TransferProtocolName | None = None
    format: Format = "parquet"
    dtype: Dtype = "float32"
    overwrite: bool = False
