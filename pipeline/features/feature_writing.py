"""Writers of feature files, as Parquet, npz or WebDataset tar, with a bounded number of rows in memory."""

import io
import itertools
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.lib import format as npy
from numpy.typing import NDArray

from datamodules.batch import multi_hot
from datamodules.datamodule import ShardedVideoDataModule
from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.dataset.index_table import NO_LABEL
from datamodules.storage.plain_text import to_json
from pipeline.features.feature_files import PAX_KEY, Dtype, Format, column_of, feature_column, from_feature_column
from pipeline.features.layer_features import VIDEO_ROW, ExportedFeatures
from pipeline.metrics.predictions import SOURCE_FIELDS, provenance_of

TableFactory = Callable[[], Iterator[pa.Table]]


def write_features(path: Path, file_format: Format, schema: pa.Schema, tables: TableFactory) -> None:
    """Writes a feature file directly to `path`, not atomically.

    Args:
        path: the path of the file.
        file_format: format of the file.
        schema: schema of the rows, from `feature_schema`, with its metadata.
        tables: function that returns a new iterator over all rows, in order, as tables of bounded size.
    """
    {"parquet": _write_parquet, "npz": _write_npz, "webdataset": _write_webdataset}[file_format](path, schema, tables)


def _write_parquet(path: Path, schema: pa.Schema, tables: TableFactory) -> None:
    provenance = provenance_of(schema, path)
    features = {column_of(layer, list(provenance["layers"])) for layer in provenance["layers"]}
    byte_stream_split = [f"{name}.list.element" for name in features]  # byte stream split: a little smaller
    dictionary_columns = [name for name in schema.names if name not in features]
    options = {"compression": "zstd", "use_dictionary": dictionary_columns, "use_byte_stream_split": byte_stream_split}
    # Without checksums a flipped bit silently changes values.
    with pq.ParquetWriter(path, schema, write_page_checksum=True, **options) as writer:
        for table in tables():
            writer.write_table(table)


def _write_npz(path: Path, schema: pa.Schema, tables: TableFactory) -> None:
    """Writes one array of M rows per column; strings as NumPy's unicode type, without pickle; a video's clip is -1.

    Times in the source are NaN for whole videos.

    Several labels a video are uint8 (M, K), 1 for each class of the video, and their names JSON lists.
    """
    provenance = provenance_of(schema, path)
    features = {column_of(layer, list(provenance["layers"])): shape for layer, shape in provenance["layers"].items()}
    num_rows = sum(table.num_rows for table in tables())
    with zipfile.ZipFile(path, "w") as archive:
        for name, shape in features.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                header = {
                    "descr": npy.dtype_to_descr(np.dtype(provenance["dtype"])),
                    "fortran_order": False,
                    "shape": (num_rows, *shape),
                }
                npy.write_array_header_2_0(file, header)
                for table in tables():
                    file.write(np.ascontiguousarray(from_feature_column(table.column(name))).data)
        other_tables = [table.drop_columns(list(features)) for table in tables()]
        for field in (field for field in schema if field.name not in features):
            chunks = [table.column(field.name) for table in other_tables]
            values = [value for chunk in chunks for value in chunk.to_pylist()]
            if field.name == "labels":
                _add_array(archive, field.name, multi_hot(values, len(provenance["classes"])).numpy())
                continue
            if field.name == "label_names":
                values = [to_json(names) for names in values]
            if field.name == "clip":
                values = [-1 if value is None else value for value in values]
            dtype = "U" if field.type == pa.string() or field.name == "label_names" else field.type.to_pandas_dtype()
            _add_array(archive, field.name, np.array(values, dtype))
        _add_array(archive, "provenance", np.array(to_json(provenance)))


def _add_array(archive: zipfile.ZipFile, name: str, values: NDArray[Any]) -> None:
    with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
        npy.write_array(file, values, allow_pickle=False)


def _write_webdataset(path: Path, schema: pa.Schema, tables: TableFactory) -> None:
    """Writes one sample per video: KEY.json, the other columns; KEY.npy, its feature; KEY.clips.npy, those of clips.

    With several layers, KEY.LAYER.npy and KEY.LAYER.clips.npy. The metadata are in the tar's global header.
    """
    provenance = provenance_of(schema, path)
    layers = {
        column_of(layer, list(provenance["layers"])): (layer, shape) for layer, shape in provenance["layers"].items()
    }
    headers = {PAX_KEY: to_json(provenance)}
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT, pax_headers=headers) as tar:
        for rows in _split_by_video(tables()):
            other_columns = rows.drop_columns(list(layers)).to_pylist()
            names = ("key", "label", "label_name", "labels", "label_names", "split", "group", *dict(SOURCE_FIELDS))
            first = {name: other_columns[0][name] for name in names if name in other_columns[0]}
            _add_member(tar, f"{first['key']}.json", to_json(first | {"rows": other_columns}).encode())
            from_clips = np.array([row.get("clip") is None for row in other_columns])
            for column, (layer, shape) in layers.items():
                values = from_feature_column(rows.column(column)).reshape(-1, *shape)
                prefix = "" if len(layers) == 1 else f"{layer}."
                if not from_clips.all():
                    _add_member(tar, f"{first['key']}.{prefix}clips.npy", _encode_npy(values[~from_clips]))
                if from_clips.any():
                    _add_member(tar, f"{first['key']}.{prefix}npy", _encode_npy(values[from_clips][0]))


def _split_by_video(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Yields the rows of each video, which are contiguous."""
    remainder: pa.Table | None = None
    for table in tables:
        pending = table if remainder is None else pa.concat_tables([remainder, table])
        keys = np.asarray(pending.column("key").to_pylist(), dtype=object)
        edges = [0, *(np.flatnonzero(keys[1:] != keys[:-1]) + 1).tolist()]
        for first, last in itertools.pairwise(edges):
            yield pending.slice(first, last - first)
        remainder = pending.slice(edges[-1])
    if remainder is not None and remainder.num_rows:
        yield remainder


def _encode_npy(values: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    npy.write_array(buffer, np.ascontiguousarray(values), allow_pickle=False)
    return buffer.getvalue()


def _add_member(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)  # with modification time 0: the same features give the same bytes
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def _label_columns(index: DatasetIndex, rows: NDArray[np.int64]) -> dict[str, Any]:
    """The columns of the labels: of one class a video, or of several labels."""
    if index.task == "multi_label":
        several = index.column("labels", rows)
        return {"labels": several, "label_names": [[index.classes[label] for label in labels] for labels in several]}
    labels = index.column("label", rows)
    names = ["" if label == NO_LABEL else index.classes[label] for label in labels]
    return {"label": labels, "label_name": names}


def feature_table(
    schema: pa.Schema,
    exported: ExportedFeatures,
    videos: ShardedVideoDataModule,
    trained_rows: NDArray[np.int64],
    dtype: Dtype,
) -> pa.Table:
    """Builds rows of `schema` from exported features and the index; `trained_rows` are the videos trained on."""
    index, rows, fold = videos.index, exported.rows.numpy(), videos.options.fold
    splits = index.column("split", rows)
    if fold is not None:
        number = index.folds.index(str(fold))
        splits = [fold_splits[number] for fold_splits in index.column("fold_splits", rows)]
    columns: dict[str, Any] = {
        "key": index.column("key", rows),
        **_label_columns(index, rows),
        "split": splits,
        "group": index.column("split_group", rows),
        "path": index.column("source", rows),
        "seen": np.isin(rows, trained_rows),
        "clip": [None if clip == VIDEO_ROW else clip for clip in exported.clips.tolist()],
        "clip_start": exported.times[:, 0].numpy(),
        "clip_end": exported.times[:, 1].numpy(),
    }
    if "source_start" in schema.names:
        start, end = index.column("source_start", rows), index.column("source_end", rows)  # NaN for whole videos
        times = {"source_start": start, "source_end": end}
        times |= {f"source_{name}": start + columns[name] for name in ("clip_start", "clip_end")}
        columns |= {"source": columns["path"]} | {name: pa.array(t, from_pandas=True) for name, t in times.items()}
    names = list(exported.features)
    for layer, values in exported.features.items():
        column = column_of(layer, names)
        size = schema.field(column).type.list_size
        columns[column] = feature_column(values.numpy().reshape(len(rows), size), dtype)
    return pa.table([pa.array(columns[field.name], field.type) for field in schema], schema=schema)
