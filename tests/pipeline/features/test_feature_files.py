"""Files of features: every format, type, pooling and kind of row reads back the same numbers."""

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import webdataset

from pipeline.__main__ import main
from pipeline.features.feature_files import feature_column, from_feature_column, read_features, read_provenance
from pipeline.features.feature_options import FeatureOptions
from pipeline.features.features import features
from pipeline.linear.video_features import read_videos

LAYERS = ["pool5", "fc6"]
CLIPS = 3  # of 16 of 24 frames, 4 apart


@pytest.fixture(scope="module")
def export(motion_checkpoint, motion_dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("formats")

    def call(name, **settings):
        settings = {"clip_step": 4, "num_workers": 0, "accelerator": "cpu"} | settings
        features(FeatureOptions(motion_checkpoint, motion_dataset, out=folder / name, **settings))
        return folder / name

    return call


@pytest.fixture(scope="module")
def parquet(export):
    return export("both.parquet", layer=LAYERS, per="both")


def test_rows_of_clips_and_of_videos(parquet, export):
    table = pq.read_table(parquet)
    clips = table.column("clip").to_pylist()
    assert clips == [*range(CLIPS), None] * 16
    assert {"feature_pool5", "feature_fc6"} <= set(table.column_names)
    values, plain = read_features(parquet, "fc6")
    assert plain.column("clip").to_pylist() == clips
    by_video = values.reshape(16, CLIPS + 1, -1)
    np.testing.assert_allclose(by_video[:, -1], by_video[:, :-1].mean(1), atol=1e-5)
    starts, ends = (np.array(plain.column(name).to_pylist()).reshape(16, -1) for name in ("clip_start", "clip_end"))
    np.testing.assert_array_equal(starts[:, -1], starts[:, 0])
    np.testing.assert_array_equal(ends[:, -1], ends[:, CLIPS - 1])
    alone, _ = read_features(export("fc6.parquet", layer=["fc6"]))
    np.testing.assert_allclose(alone, by_video[:, -1], atol=1e-5)
    assert read_provenance(parquet)["layers"]["fc6"] == [alone.shape[1]]


@pytest.mark.parametrize("form", ["npz", "webdataset"])
def test_every_format_reads_the_same(form, parquet, export):
    path = export(form, layer=LAYERS, per="both", format=form)
    assert read_provenance(path) == read_provenance(parquet) | {"format": form}
    for layer in LAYERS:
        (values, plain), (expected, table) = read_features(path, layer), read_features(parquet, layer)
        np.testing.assert_allclose(values, expected, atol=1e-6)
        assert values.dtype == np.float32
        assert plain.equals(table)


def test_webdataset_reads_the_tar(export):
    path = export("videos.tar", layer=["fc6"], format="webdataset")
    samples = list(webdataset.WebDataset(str(path), shardshuffle=False).decode())
    expected, table = read_features(path)
    assert [sample["__key__"] for sample in samples] == table.column("key").to_pylist()
    np.testing.assert_array_equal(np.stack([sample["npy"] for sample in samples]), expected)
    assert [sample["json"]["label"] for sample in samples] == table.column("label").to_pylist()


def test_places_are_kept_in_float16_and_pandas_reads_them(export):
    half = export("half.parquet", layer=["pool3"], pool="none", per="clip", dtype="float16")
    kept, table = read_features(half)
    assert kept.dtype == np.float16
    shape = read_provenance(half)["layers"]["pool3"]
    assert kept.shape == (16 * CLIPS, *shape)
    frame = pd.read_parquet(half)
    np.testing.assert_array_equal(np.stack(frame.feature).reshape(kept.shape), kept)
    for pool_features, expected in (
        ("time", kept.astype(np.float32).mean((3, 4)).transpose(0, 2, 1)),
        ("max", kept.max((2, 3, 4))),
        ("mean", kept.astype(np.float32).mean((2, 3, 4))),
    ):
        found, other = read_features(
            export(f"{pool_features}.parquet", layer=["pool3"], pool=pool_features, per="clip")
        )
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=2e-3)
        assert other.equals(table)


def test_numbers_too_large_for_float16_are_refused():
    values = np.array([[1.0, 1e5]], np.float32)
    np.testing.assert_array_equal(from_feature_column(feature_column(values, "float32")), values)
    with pytest.raises(ValueError, match="features up to 100000 do not fit; use float32"):
        feature_column(values, "float16")


def test_what_the_network_was_trained_on_is_marked(export, folded_checkpoint, folded_dataset, tmp_path):
    _, table = read_features(export("test.parquet"))
    assert not any(table.column("seen").to_pylist())
    _, table = read_features(export("train.parquet", split="train"))
    assert all(table.column("seen").to_pylist())
    features(
        FeatureOptions(
            folded_checkpoint,
            folded_dataset,
            out=tmp_path / "all",
            split="all",
            num_clips=1,
            num_workers=0,
            accelerator="cpu",
        )
    )
    _, table = read_features(tmp_path / "all")
    groups = table.column("group").to_pylist()
    assert table.column("seen").to_pylist() == [group != "g1" for group in groups]  # trained in fold 1
    assert read_provenance(tmp_path / "all")["trained_on"]["fold"] == "1"


def test_protocols_set_what_nobody_else_does(motion_checkpoint, motion_dataset, tmp_path, capsys):
    words = ["features", "--checkpoint", str(motion_checkpoint), "--data", str(motion_dataset), "--num-workers", "0"]
    words += ["--out", str(tmp_path / "f"), "--protocol", "c3d"]
    assert main(words) == 2  # the paper's clips are not those of this small network
    assert "num_frames=16, crop_size=112: the C3D of" in capsys.readouterr().err
    assert main([*words, "--crop-size", "32", "--resize", "48", "--clip-step", "6"]) == 0
    about = read_provenance(tmp_path / "f")
    assert about["layer"] == "fc6"
    sampling = about["sampling"]
    assert [sampling[name] for name in ("num_frames", "clip_step", "crop_size", "resize")] == [16, 6, 32, 48]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pool": "time", "layer": ["fc6"]}, "has no time; use mean or none"),
        ({"pool": "none", "layer": ["pool3"], "whole": True, "clip_step": None}, "whole videos differ in length"),
        ({"layer": ["fc6", "fc9"]}, "layer 'fc9': C3D has"),
        ({"save_every": 0}, "save_every=0: must be at least 1"),
    ],
)
def test_what_cannot_be_is_refused(settings, message, export, tmp_path):
    with pytest.raises(ValueError, match=message):
        export("refused", **settings)


def test_a_file_of_several_layers_wants_one_named(parquet):
    with pytest.raises(ValueError, match="has fc6, pool5; choose with --layer"):
        read_features(parquet)
    with pytest.raises(ValueError, match=r"layer='fc7': .* has fc6, pool5"):
        read_features(parquet, "fc7")


def test_one_flipped_bit_is_found_and_the_file_named(parquet, tmp_path):
    """Numbers squeezed by zstd without a checksum are other numbers then, and nobody is told."""
    whole, damaged = parquet.read_bytes(), tmp_path / "damaged.parquet"
    column = pq.ParquetFile(parquet).metadata.row_group(0).column(9)
    assert column.path_in_schema.startswith("feature_")
    layer = column.path_in_schema.split(".")[0].removeprefix("feature_")
    middle = column.data_page_offset + column.total_compressed_size // 2
    for place in (middle, middle + 1, middle + 2):
        damaged.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        for read in (lambda: read_features(damaged, layer), lambda: read_videos(damaged, [layer])):
            with pytest.raises(ValueError, match=r"damaged\.parquet': cannot be read, export them again"):
                read()
    damaged.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"damaged\.parquet': cannot be read, export them again"):
        read_features(damaged, "fc6")
