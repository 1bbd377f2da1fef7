"""Options of `features`."""

from dataclasses import dataclass
from pathlib import Path

from pipeline.features.feature_files import Dtype, Format
from pipeline.features.layer_features import Per, Pool
from pipeline.inference.inference_options import InferenceOptions
from pipeline.inference.protocols import TransferProtocolName


@dataclass(frozen=True)
class FeatureOptions(InferenceOptions):
    """Options of `features`.

    Attributes:
        checkpoint: file that `fit` wrote, or a name that `python -m pipeline weights list` prints.
        data: folder of the packed dataset; its classes may be others than the checkpoint's.
        out: the file to write; one of the same settings is left as it is.
        split: videos to export.
        fold: for datasets with folds; default: the fold the checkpoint was trained in.
        layer: names of endpoints of the network; default: the network's own choice, such as C3D's fc6. Several make a
            column each, feature_NAME.
        pool: mean or max over time and space; time keeps the time steps (mean over space); none keeps all. The shape
            of what is kept is in the metadata.
        per: a row a video, the mean over its views; a row a clip, with its start and end in seconds; or both.
        protocol: sets layer and clips as a paper had them, where no option says otherwise.
        format: parquet; npz (an array a column); or webdataset, a tar with KEY.npy and KEY.json for each video.
        dtype: type of the features' numbers: float32, or float16 at half the size.
        overwrite: replace a file of other settings, or parts of them.
    """

    checkpoint: Path
    data: Path
    out: Path
    split: str = "test"
    fold: str | None = None
    layer: list[str] | None = None
    pool: Pool = "mean"
    per: Per = "video"
    protocol: TransferProtocolName | None = None
    format: Format = "parquet"
    dtype: Dtype = "float32"
    overwrite: bool = False
