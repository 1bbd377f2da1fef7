"""Feature files: their columns and metadata, and one reader for all formats."""

import io
import json
import tarfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.features.layer_features import RowUnit
from pipeline.metrics.predictions import SOURCE_FIELDS, provenance_of, with_provenance

Format = Literal["parquet", "npz", "webdataset"]
Dtype = Literal["float32", "float16"]
SUFFIXES: dict[str, Format] = {".parquet": "parquet", ".npz": "npz", ".tar": "webdataset"}
PAX_KEY = "provenance"  # global header of the tar, which readers of samples ignore

_ARROW_TYPES = {"float32": pa.float32(), "float16": pa.float16()}
_COLUMN_PREFIX = "feature"
_SOURCE_CLIP_TIMES = ("source_clip_start", "source_clip_end")


def column_of(layer: str, layers: Sequence[str]) -> str:
    """Returns the column of a layer's features: `feature`, or `feature_{layer}` in a file of several layers."""
    return _COLUMN_PREFIX if len(layers) == 1 else f"{_COLUMN_PREFIX}_{layer}"


def feature_schema(provenance: Mapping[str, Any]) -> pa.Schema:
    """Returns the schema of a file: key, label (int32), label_name, split, group, seen (bool), then the features.

    Where the provenance's task is `multi_label`: labels (list of int32) and label_names (list of strings) in place of
    label and label_name.

    Files of features of plain video files have path after group: that of the file, relative to `videos` of the
    provenance.
    Files with rows of clips have before the features: clip (int32, from 0 in each video; null in the row of a whole
    video), clip_start and clip_end (float64, seconds). `seen`: the network was trained on the video or its group.
    Files of datasets with segments (`source_times` in the provenance) have after seen: source, the path of the file,
    source_start and source_end; and with rows of clips, after clip_end, source_clip_start and source_clip_end: the
    times of the clip in the source. All are float64, seconds, and null for whole videos.

    Args:
        provenance: plain data for the file's metadata; its `layers` gives the shape of each layer's features, `dtype`
            their type and `per` what a row is.
    """
    per: RowUnit = provenance["per"]
    has_segments = provenance.get("source_times", False)
    clip_times = ["clip_start", "clip_end", *(_SOURCE_CLIP_TIMES if has_segments else ())]
    clip_fields = [("clip", pa.int32()), *((name, pa.float64()) for name in clip_times)] if per != "video" else []
    label_fields = [("label", pa.int32()), ("label_name", pa.string())]
    if provenance.get("task") == "multi_label":
        label_fields = [("labels", pa.list_(pa.int32())), ("label_names", pa.list_(pa.string()))]
    features = [
        (column_of(layer, list(provenance["layers"])), pa.list_(_ARROW_TYPES[provenance["dtype"]], int(np.prod(shape))))
        for layer, shape in provenance["layers"].items()
    ]
    video_fields = [
        ("key", pa.string()),
        *label_fields,
        ("split", pa.string()),
        ("group", pa.string()),
        *([("path", pa.string())] if "videos" in provenance else []),
        ("seen", pa.bool_()),
        *(SOURCE_FIELDS if has_segments else ()),
    ]
    return with_provenance(pa.schema([*video_fields, *clip_fields, *features]), provenance)


def feature_column(values: NDArray[np.float32], dtype: Dtype) -> pa.FixedSizeListArray:
    """Converts an array (M, D) to an Arrow column of M lists of D numbers.

    Raises:
        ValueError: values overflow float16.
    """
    with np.errstate(over="ignore"):
        flat = np.ascontiguousarray(values).ravel().astype(dtype)
    if dtype == "float16" and not np.isfinite(flat[np.isfinite(values).ravel()]).all():
        raise ValueError(f"dtype='float16': features up to {np.nanmax(np.abs(values)):g} do not fit; use float32")
    return pa.FixedSizeListArray.from_arrays(pa.array(flat, _ARROW_TYPES[dtype]), values.shape[1])


def from_feature_column(column: pa.ChunkedArray | pa.Array) -> NDArray[np.floating]:
    """Converts an Arrow column of M lists of D numbers to an array (M, D) of the column's type."""
    size = column.type.list_size
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    empty = np.empty((0, size), np.dtype(column.type.value_type.to_pandas_dtype()))
    return np.concatenate(
        [empty, *(chunk.flatten().to_numpy(zero_copy_only=False).reshape(-1, size) for chunk in chunks)]
    )


def read_features(path: str | Path, layer: str | None = None) -> tuple[NDArray[np.floating], pa.Table]:
    """Reads a file that `features` wrote: Parquet, npz or a WebDataset tar.

    Args:
        path: the path of the file.
        layer: name of the layer; may be None in a file of one layer.

    Returns:
        The features, float32 or float16 (M, D), or (M, ...) without full pooling; and a table with the other columns
        of the M rows: key, label, label_name (or labels, label_names), split, group, seen, for plain video files path,
        for rows of clips clip, clip_start and clip_end (seconds), and for segments their source and times in it
        (`feature_schema`). `read_provenance` gives the metadata.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: not a feature file, damaged, or without this layer.
    """
    path = Path(path)
    provenance = read_provenance(path)
    column, shape = find_layer(provenance, layer, path)
    file_format = _format_of(path)
    if file_format == "parquet":
        with naming_damaged_file(path):
            table = open_parquet(path).read()
        values = from_feature_column(table.column(column))
        other_table = table.select([name for name in table.column_names if not name.startswith(_COLUMN_PREFIX)])
        return values.reshape(-1, *shape), other_table.replace_schema_metadata(None)
    schema = feature_schema(provenance | {"layers": provenance["layers"]}).remove_metadata()
    other_columns = pa.schema([field for field in schema if not field.name.startswith(_COLUMN_PREFIX)])
    if file_format == "npz":
        with np.load(path, allow_pickle=False) as arrays:
            values = arrays[column]
            columns = [_from_array(arrays[field.name], field) for field in other_columns]
        return values, pa.table(columns, schema=other_columns)
    arrays, rows = [np.empty((0, *shape), provenance["dtype"])], list[dict[str, Any]]()
    for sample in _read_samples(path):
        rows += json.loads(sample["json"])["rows"]
        arrays += _sample_arrays(sample, column.removeprefix(_COLUMN_PREFIX).lstrip("_"), shape)
    return np.concatenate(arrays), pa.Table.from_pylist(rows, other_columns)


def read_provenance(path: str | Path) -> dict[str, Any]:
    """Reads the provenance of a feature file: checkpoint, checkpoint_sha256, layers, sampling, decoder, classes, ...

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: not a feature file.
    """
    path = Path(path)
    file_format = _format_of(path)
    if file_format == "parquet":
        return provenance_of(open_parquet(path).schema_arrow, path)
    try:
        if file_format == "npz":
            with np.load(path, allow_pickle=False) as arrays:
                return dict(json.loads(str(arrays["provenance"])))
        with tarfile.open(path) as tar:
            return dict(json.loads(tar.pax_headers[PAX_KEY]))
    except (KeyError, ValueError, zipfile.BadZipFile, tarfile.TarError) as error:
        raise ValueError(f"features {str(path)!r}: not a file that `features` wrote ({error})") from None


def open_parquet(path: Path) -> pq.ParquetFile:
    """Opens a feature file in Parquet format.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: not a whole Parquet file, or without features.
    """
    if _format_of(path) != "parquet":
        raise ValueError(f"features {str(path)!r}: not a Parquet file; export with --format parquet")
    with naming_damaged_file(path):
        file = pq.ParquetFile(path, page_checksum_verification=True)
    if not any(name.startswith(_COLUMN_PREFIX) for name in file.schema_arrow.names):
        raise ValueError(f"features {str(path)!r}: has no column 'feature'; give a file that `features` wrote")
    return file


@contextmanager
def naming_damaged_file(path: Path) -> Iterator[None]:
    """Context that turns Arrow's errors about damaged data into a ValueError that names the file."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        cause = " ".join(str(error).split())
        raise ValueError(f"features {str(path)!r}: cannot be read, export them again ({cause})") from error


def find_layer(provenance: Mapping[str, Any], layer: str | None, path: Path) -> tuple[str, list[int]]:
    """Returns the column of a layer and the shape of its features.

    Raises:
        ValueError: the file does not have this layer, or has several and `layer` is None.
    """
    layers = provenance.get("layers") or {provenance["layer"]: [provenance["dimension"]]}
    if layer is None and len(layers) > 1:
        raise ValueError(f"{path}: has {', '.join(layers)}; choose with --layer")
    if layer is not None and layer not in layers:
        raise ValueError(f"layer={layer!r}: {path} has {', '.join(layers)}")
    name = layer or next(iter(layers))
    return column_of(name, list(layers)), list(layers[name])


def _format_of(path: Path) -> Format:
    if not path.is_file():
        raise FileNotFoundError(f"features {str(path)!r}: no such file; `python -m pipeline features` writes them")
    with path.open("rb") as file:
        first = file.read(4)
    if first == b"PAR1":
        return "parquet"
    if first[:2] == b"PK":
        return "npz"
    if tarfile.is_tarfile(path):
        return "webdataset"
    raise ValueError(f"features {str(path)!r}: not a Parquet file, nor one of the other formats of `features`")


def _from_array(values: NDArray[Any], field: pa.Field) -> pa.Array:
    if field.name == "labels":
        return pa.array([np.flatnonzero(row) for row in values], field.type)
    if field.name == "label_names":
        return pa.array([json.loads(names) for names in values.tolist()], field.type)
    if field.name == "clip":
        return pa.array(values, field.type, mask=values < 0)
    if field.name.startswith("source_"):
        return pa.array(values, field.type, mask=np.isnan(values))
    return pa.array(values.tolist() if field.type == pa.string() else values, field.type)


def _read_samples(path: Path) -> Iterator[dict[str, bytes]]:
    """Yields the members of each sample of a tar, by extension."""
    sample: dict[str, bytes] = {}
    with tarfile.open(path) as tar:
        for member in tar:
            content = tar.extractfile(member)
            assert content is not None
            extension = member.name.partition(".")[2]
            if extension == "json" and sample:
                yield sample
                sample = {}
            sample[extension] = content.read()
    if sample:
        yield sample


def _sample_arrays(sample: Mapping[str, bytes], layer: str, shape: Sequence[int]) -> list[NDArray[np.floating]]:
    """Loads the features of a video's clips, then of the video, if present: each (rows, ...)."""
    prefix = f"{layer}." if layer else ""
    names = [f"{prefix}clips.npy", f"{prefix}npy"]
    return [
        np.load(io.BytesIO(sample[name]), allow_pickle=False).reshape(-1, *shape) for name in names if name in sample
    ]
