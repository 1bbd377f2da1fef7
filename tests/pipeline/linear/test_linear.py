"""Linear classifiers on features: scikit-learn's results, refusals, open weights."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors import safe_open
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import LinearSVC

from pipeline.__main__ import main
from pipeline.features.feature_files import feature_column, feature_schema
from pipeline.features.feature_options import FeatureOptions
from pipeline.features.features import features
from pipeline.linear.classifiers import ClassifierFitter, normalize_l2
from pipeline.linear.cross_validation import C_GRID, choose_c
from pipeline.linear.feature_blocks import FeatureRows
from pipeline.linear.linear import linear
from pipeline.linear.linear_options import LinearOptions
from pipeline.metrics.predictions import read_predictions

CLASSES = ["jump", "run", "walk"]
ABOUT = {"checkpoint": "a.ckpt", "checkpoint_sha256": "aa", "model": "C3D", "layer": "fc6", "per": "video"}
ABOUT |= {"dataset": "made", "split": "x", "classes": CLASSES, "dtype": "float32", "pool": "mean"}


def write_features(path, values, labels, first=0, groups=None, keys=None, seen=False, **about):
    """A file of features as `features` writes it."""
    about = ABOUT | about
    schema = feature_schema(about | {"layers": {about["layer"]: [values.shape[1]]}})
    numbers = range(first, first + len(labels))
    columns = {
        "key": keys or [f"v{number}" for number in numbers],
        "label": labels,
        "label_name": [CLASSES[label] for label in labels],
        "split": ["x"] * len(labels),
        "group": groups or [f"g{number}" for number in numbers],
        "seen": [seen] * len(labels),
        "feature": feature_column(values, "float32"),
    }
    pq.write_table(pa.table([pa.array(columns[field.name], field.type) for field in schema], schema=schema), path)
    return path


def clouds(count, seed, num_classes=3, noise=1.0):
    """`count` points of 10 numbers around a center for each class."""
    generator = np.random.default_rng(seed)
    centers = np.random.default_rng(99).normal(size=(num_classes, 10))
    labels = np.arange(count) % num_classes
    return (centers[labels] + noise * generator.normal(size=(count, 10))).astype(np.float32), labels


@pytest.fixture
def files(tmp_path):
    train, test = clouds(90, 0), clouds(30, 1)
    return write_features(tmp_path / "train.parquet", *train), write_features(tmp_path / "test.parquet", *test, 1000)


@pytest.mark.parametrize("kind", ["svm", "logistic"])
def test_the_scores_are_those_of_sklearn_on_normalized_features(files, tmp_path, kind):
    linear(LinearOptions(tmp_path / "out", *files, classifier=kind, C=0.5))
    (train, labels), (test, truth) = clouds(90, 0), clouds(30, 1)
    train, test = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (train, test))
    if kind == "svm":
        expected = LinearSVC(C=0.5, dual="auto", random_state=0).fit(train, labels).decision_function(test)
    else:
        expected = LogisticRegression(C=0.5, max_iter=1000).fit(train, labels).predict_proba(test)
    scores, table = read_predictions(tmp_path / "out" / "predictions.parquet")
    np.testing.assert_allclose(scores, expected, atol=2e-3)
    assert table.column("key").to_pylist() == [f"v{number}" for number in range(1000, 1030)]
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["top1"] == (expected.argmax(1) == truth).mean() > 0.5
    keys = {"top1", "top5", "mean_class_accuracy", "num_videos", "chance", "per_class", "C", "classifier", "converged"}
    assert keys <= report.keys()
    assert (report["C"], report["num_videos"], report["num_train_videos"]) == (0.5, 30, 90)
    assert report["provenance"]["scores"] == ("margin" if kind == "svm" else "probability")


def test_the_weights_alone_give_the_predictions(files, tmp_path):
    linear(LinearOptions(tmp_path / "out", *files))
    with safe_open(tmp_path / "out" / "weights.safetensors", "np") as weights:
        about = json.loads(weights.metadata()["about"])
        margins = normalize_l2(clouds(30, 1)[0]) @ weights.get_tensor("weight").T + weights.get_tensor("bias")
    np.testing.assert_allclose(margins, read_predictions(tmp_path / "out" / "predictions.parquet")[0], atol=1e-5)
    assert about["classes"] == CLASSES
    assert [about[name] for name in ("classifier", "C", "layer", "checkpoint_sha256")] == ["svm", 1.0, "fc6", "aa"]


def test_the_same_input_gives_the_same_files(files, tmp_path):
    for name in ("one", "two"):
        linear(LinearOptions(tmp_path / name, *files))
    for name in ("weights.safetensors", "predictions.parquet"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.parametrize("kind", ["svm", "logistic"])
def test_two_classes_and_one_without_videos(kind):
    values, labels = clouds(40, 0, num_classes=2)
    x = normalize_l2(values)
    fitted = ClassifierFitter(kind, FeatureRows.from_array(x), 2 * labels, 3).fit(1.0)  # classes 0 and 2 of three
    scores = fitted.scores(FeatureRows.from_array(x))
    model = LinearSVC(dual=False, tol=1e-8) if kind == "svm" else LogisticRegression(tol=1e-8)
    model.fit(x.astype(np.float64), labels)
    if kind == "svm":
        np.testing.assert_allclose(scores[:, 2], model.decision_function(x), atol=1e-4)
        np.testing.assert_allclose(scores[:, 0], -scores[:, 2], atol=1e-6)
    else:
        np.testing.assert_allclose(scores[:, [0, 2]], model.predict_proba(x), atol=1e-4)
    assert (scores[:, 1] < scores[:, [0, 2]].min(axis=1)).all()
    assert np.isfinite(scores).all()
    with pytest.raises(ValueError, match="at least 2 are needed"):
        ClassifierFitter(kind, FeatureRows.from_array(x), np.zeros(40, np.int64), 3)


def test_normalizing_leaves_zeros():
    np.testing.assert_allclose(normalize_l2(np.array([[3.0, 4.0], [0.0, 0.0]], np.float32)), [[0.6, 0.8], [0.0, 0.0]])


def test_c_is_chosen_without_dividing_groups():
    # Each group has a point of its own that says nothing about the class, four times over. Who divides groups learns
    # them by heart and finds every C good; who does not is right half of the time.
    generator = np.random.default_rng(0)
    values = FeatureRows.from_array(normalize_l2(np.repeat(generator.normal(size=(40, 200)), 4, axis=0)))
    labels = np.repeat(np.arange(40) % 2, 4)
    groups = [str(number // 4) for number in range(160)]
    c, honest = choose_c("svm", values, labels, groups)
    _, fooled = choose_c("svm", values, labels, [str(number) for number in range(160)])
    assert max(honest.values()) < 0.75
    assert max(fooled.values()) > 0.95
    assert c in C_GRID
    assert honest[str(c)] == max(honest.values())


def test_c_auto_on_the_command_line(files, tmp_path, capsys):
    words = ["linear", "--train", str(files[0]), "--test", str(files[1]), "--out", str(tmp_path / "out")]
    assert main([*words, "--C", "auto", "--classifier", "logistic"]) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["cross_validation"][str(report["C"])] == max(report["cross_validation"].values())
    assert "trained on" in capsys.readouterr().out


def test_c_auto_needs_two_groups_a_class(tmp_path):
    train = write_features(tmp_path / "train.parquet", *clouds(9, 0), groups=["a", "b", "c"] * 3)
    test = write_features(tmp_path / "test.parquet", *clouds(9, 1), 1000)
    with pytest.raises(ValueError, match="no class has two groups"):
        linear(LinearOptions(tmp_path / "out", train, test, C="auto"))


def test_clips_of_a_video_are_averaged(tmp_path):
    values, labels = clouds(30, 1)
    shifts = np.random.default_rng(3).normal(size=(30, 10)).astype(np.float32)
    doubled = np.concatenate([values - shifts, values + shifts])
    keys = [f"v{number}" for number in range(1000, 1030)] * 2
    train = write_features(tmp_path / "train.parquet", *clouds(90, 0))
    clips = write_features(tmp_path / "clips.parquet", doubled, np.tile(labels, 2), groups=keys, keys=keys)
    videos = write_features(tmp_path / "videos.parquet", values, labels, 1000)
    linear(LinearOptions(tmp_path / "clips", train, clips))
    linear(LinearOptions(tmp_path / "videos", train, videos))
    one, two = (read_predictions(tmp_path / name / "predictions.parquet") for name in ("clips", "videos"))
    np.testing.assert_allclose(one[0], two[0], atol=1e-4)
    assert one[1].column("key").equals(two[1].column("key"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"first": 80}, "was trained on 10 of its 30 videos, and 10 of its groups: export other splits"),
        ({"groups": ["g1", "g2"] + ["other"] * 28}, "was trained on 0 of its 30 videos, and 2 of its groups"),
        (
            {"checkpoint_sha256": "bb", "checkpoint": "b.ckpt"},
            r"checkpoints \(a.ckpt with sha256 aa, b.ckpt with sha256 bb\)",
        ),
        ({"checkpoint_sha256": "bb"}, r"checkpoints \(a.ckpt with sha256 aa, a.ckpt with sha256 bb\)"),
        ({"layer": "fc7"}, r"of different layers \(fc6, fc7\)"),
        ({"sampling": {"fps": 12.5, "num_clips": 10}}, r"of different clips \(fps 25.0, 12.5\)"),
        ({"classes": ["jump", "run", "swim"]}, "different classes: only .* has 'walk'; only .* has 'swim'"),
        ({"classes": ["run", "jump", "walk"]}, "their order differs, class 0 is 'jump' and 'run'"),
    ],
)
def test_files_that_do_not_go_together_are_refused(tmp_path, changes, message):
    about = {"sampling": {"fps": 25.0, "num_clips": 3}}
    train = write_features(tmp_path / "train.parquet", *clouds(90, 0), **about)
    test = write_features(tmp_path / "test.parquet", *clouds(30, 1), **({"first": 1000} | about | changes))
    with pytest.raises(ValueError, match=message):
        linear(LinearOptions(tmp_path / "out", train, test))
    assert not (tmp_path / "out").exists()


def test_an_overlap_that_is_allowed_is_told(files, tmp_path, capsys):
    linear(LinearOptions(tmp_path / "out", files[0], files[0], allow_overlap=True))
    overlap = json.loads((tmp_path / "out" / "report.json").read_text())["provenance"]["overlap"]
    assert overlap == {"videos": 90, "content": 0, "groups": 90, "of": 90}
    assert "not held out" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--train": "absent.parquet"}, "features 'absent.parquet': no such file"),
        ({"--test": __file__}, "not a Parquet file"),
        ({"--C": "0"}, "C=0.0: must be above 0, or 'auto'"),
        ({"--C": "much"}, "C"),
        ({"--classifier": "forest"}, "classifier: must be one of svm, logistic, knn, not forest"),
        ({"--out": __file__}, "test_linear.py': is a file; give a folder for the results"),
        ({"--out": f"{__file__}/out", "--train": "absent"}, "test_linear.py is no folder, so nothing can be in it"),
    ],
)
def test_bad_input_costs_one_line(files, tmp_path, changes, message, capsys):
    options = {"--train": str(files[0]), "--test": str(files[1]), "--out": str(tmp_path / "out")} | changes
    assert main(["linear", *(word for pair in options.items() for word in pair)]) == 2
    complaint = capsys.readouterr().err.strip().splitlines()[-1]
    assert complaint.startswith("error: ")
    assert message in complaint
    assert not (tmp_path / "out").exists()


def test_features_that_are_not_finite_are_refused(files, tmp_path):
    values, labels = clouds(30, 1)
    values[3, 2] = np.nan
    broken = write_features(tmp_path / "broken.parquet", values, labels, 1000)
    with pytest.raises(ValueError, match="features of 1 rows are not finite"):
        linear(LinearOptions(tmp_path / "out", files[0], broken))


def test_from_a_checkpoint_to_a_linear_classifier(motion_checkpoint, motion_dataset, tmp_path):
    for split in ("train", "test"):
        path = tmp_path / f"{split}.parquet"
        features(
            FeatureOptions(
                motion_checkpoint, motion_dataset, out=path, split=split, num_clips=2, num_workers=0, accelerator="cpu"
            )
        )
    linear(LinearOptions(tmp_path / "out", tmp_path / "train.parquet", tmp_path / "test.parquet"))
    frame = pd.read_parquet(tmp_path / "out" / "predictions.parquet")
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert len(frame) == report["num_videos"] == 16
    assert report["top1"] == frame.correct.mean()
    assert report["provenance"]["train"]["split"] == "train"
    assert report["provenance"]["test"]["split"] == "test"


def test_nearest_neighbors_need_no_weights(files, tmp_path, capsys):
    words = ["linear", "--train", str(files[0]), "--test", str(files[1]), "--out", str(tmp_path / "out")]
    assert main([*words, "--classifier", "knn", "--neighbors", "5"]) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    (train, labels), (test, truth) = clouds(90, 0), clouds(30, 1)
    model = KNeighborsClassifier(5, metric="cosine").fit(train, labels)
    assert report["top1"] == pytest.approx((model.predict(test) == truth).mean(), abs=0.07)  # votes of one weight
    assert not (tmp_path / "out" / "weights.safetensors").exists()
    assert (tmp_path / "out" / "report.html").is_file()
    assert main([*words, "--classifier", "knn", "--neighbors", "500"]) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["provenance"]["neighbors"] == 90, "all that there are"


def test_protocols_set_what_nobody_else_does(files, tmp_path):
    words = ["linear", "--train", str(files[0]), "--test", str(files[1]), "--protocol", "i3d"]
    assert main([*words, "--out", str(tmp_path / "one")]) == 0
    assert main([*words, "--out", str(tmp_path / "two"), "--C", "10", "--class-weight", "balanced"]) == 0
    one, two = (json.loads((tmp_path / name / "report.json").read_text()) for name in ("one", "two"))
    assert (one["classifier"], two["classifier"]) == ("logistic", "logistic")
    assert one["cross_validation"]
    assert (two["C"], two["cross_validation"]) == (10, None)
    assert two["provenance"]["class_weight"] == "balanced"
