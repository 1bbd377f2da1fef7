"""Normalization of features in blocks, and several layers of a file side by side."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.features.feature_files import feature_column, feature_schema
from pipeline.linear.feature_normalization import FeatureNormalization
from pipeline.linear.linear import linear
from pipeline.linear.linear_options import LinearOptions
from pipeline.linear.video_features import read_videos
from tests.pipeline.linear.test_linear import ABOUT, CLASSES

ROWS = np.array([[3.0, -4.0, 0.0, 9.0], [0.0, 0.0, 1.0, -1.0]])
HALF = 0.5**0.5


def test_each_block_has_the_same_length():
    halves = FeatureNormalization((2, 2)).apply(ROWS)
    np.testing.assert_allclose(halves, HALF * np.array([[0.6, -0.8, 0, 1], [0, 0, HALF, -HALF]]), atol=1e-6)
    assert halves.dtype == np.float32
    whole = FeatureNormalization((4,), "signed_sqrt").apply(ROWS[:1])
    np.testing.assert_allclose(whole, [[3**0.5 / 4, -2 / 4, 0, 3 / 4]], atol=1e-6)
    roots = FeatureNormalization((2, 2), "signed_sqrt").apply(ROWS[:1])
    np.testing.assert_allclose(roots, HALF * np.array([[(3 / 7) ** 0.5, -((4 / 7) ** 0.5), 0, 1]]), atol=1e-6)


def test_mean_and_maximum_are_blocks_of_their_own():
    about = {"layers": {"fc7": [3], "pool5": [2, 4]}}
    assert FeatureNormalization.of_features(about | {"pool": "none"}).block_sizes == (3, 8)
    about = {"layers": {"fc7": [2, 3], "pool5": [2, 4]}, "pool": "mean_max"}
    assert FeatureNormalization.of_features(about).block_sizes == (3, 3, 4, 4)


@pytest.fixture
def two_layers(tmp_path):
    """A file of layers `wide` (4 numbers) and `deep` (2 numbers), 12 videos of one clip each but the last, of two."""
    generator = np.random.default_rng(0)
    layers = {"wide": generator.normal(size=(13, 4)).astype("f4"), "deep": generator.normal(size=(13, 2)).astype("f4")}
    about = {name: value for name, value in ABOUT.items() if name != "layer"}
    schema = feature_schema(about | {"layers": {name: [values.shape[1]] for name, values in layers.items()}})
    keys = [f"v{min(number, 11)}" for number in range(13)]
    labels = [int(key[1:]) % 3 for key in keys]
    columns = {"key": keys, "label": labels, "label_name": [CLASSES[label] for label in labels], "split": ["x"] * 13}
    columns |= {"group": keys, "seen": [False] * 13}
    columns |= {f"feature_{name}": feature_column(values, "float32") for name, values in layers.items()}
    path = tmp_path / "two.parquet"
    pq.write_table(pa.table([pa.array(columns[field.name], field.type) for field in schema], schema=schema), path)
    return path, layers


def test_layers_are_read_side_by_side_in_the_order_in_which_they_are_named(two_layers):
    path, layers = two_layers
    videos = read_videos(path, ["wide", "deep"], normalize="signed_sqrt")
    side_by_side = np.concatenate([layers["wide"], layers["deep"]], axis=1)
    means = np.concatenate([side_by_side[:11], side_by_side[11:].mean(0, keepdims=True)])
    expected = FeatureNormalization((4, 2), "signed_sqrt").apply(means)
    np.testing.assert_allclose(videos.features.sample(12), expected, atol=1e-6)
    assert videos.provenance["layers"] == {"wide": [4], "deep": [2]}
    assert videos.provenance["layer"] == "wide + deep"
    reverse = read_videos(path, ["deep", "wide"], normalize="signed_sqrt").features.sample(12)
    np.testing.assert_allclose(reverse, np.roll(expected, 2, axis=1), atol=1e-6)
    assert read_videos(path, ["deep"]).features.dimension == 2


def test_several_layers_need_a_choice_and_the_report_names_it(two_layers, tmp_path):
    path, _ = two_layers
    with pytest.raises(ValueError, match="has deep, wide; choose with --layer"):
        linear(LinearOptions(tmp_path / "out", path, path, allow_overlap=True))
    with pytest.raises(ValueError, match=r"layer=.fc6.: .* has deep, wide"):
        linear(LinearOptions(tmp_path / "out", path, path, allow_overlap=True, layer=["deep", "fc6"]))
    linear(LinearOptions(tmp_path / "out", path, path, allow_overlap=True, layer=["wide", "deep"]))
    provenance = json.loads((tmp_path / "out" / "report.json").read_text())["provenance"]
    assert (provenance["layer"], provenance["normalize"]) == ("wide + deep", "l2")
