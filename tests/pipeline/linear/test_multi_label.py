"""Linear classifiers of several labels: against scikit-learn, C by mean average precision, from features to report."""

import json

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.svm import LinearSVC

from pipeline.__main__ import main
from pipeline.features.feature_files import read_features
from pipeline.linear.classifiers import LinearClassifier, normalize_l2
from pipeline.linear.cross_validation import choose_c
from pipeline.linear.feature_blocks import FeatureRows
from pipeline.linear.linear_probe import refuse_other_features
from pipeline.linear.multi_label_fitter import MultiLabelFitter
from pipeline.linear.nearest_neighbors import nearest_neighbor_scores
from pipeline.linear.video_features import read_videos
from pipeline.metrics.scored_videos import read_scored_videos


def made(rows=150, dimension=8, classes=4):
    generator = np.random.default_rng(0)
    features = normalize_l2(generator.normal(size=(rows, dimension)))
    labels = features @ generator.normal(size=(dimension, classes)) + 0.3 * generator.normal(size=(rows, classes)) > 0.3
    return features, labels.astype(np.uint8)


@pytest.mark.parametrize("class_weight", [None, "balanced"])
@pytest.mark.parametrize("kind", ["svm", "logistic"])
def test_each_class_is_what_scikit_learn_fits(kind, class_weight):
    features, labels = made()
    settings = {"C": 3.0, "class_weight": class_weight, "tol": 1e-10, "max_iter": 100_000}
    plain = LinearSVC(**settings) if kind == "svm" else LogisticRegression(solver="newton-cholesky", **settings)
    expected = OneVsRestClassifier(plain).fit(features, labels)
    found = MultiLabelFitter(kind, FeatureRows.from_array(features), labels, class_weight).fit(3.0)
    assert found.converged
    scores = found.scores(FeatureRows.from_array(features))
    if kind == "svm":
        np.testing.assert_allclose(scores, expected.decision_function(features), atol=1e-4)
    else:
        np.testing.assert_allclose(scores, expected.predict_proba(features), atol=1e-4)
        np.testing.assert_allclose(found.weight, np.stack([of.coef_[0] for of in expected.estimators_]), atol=1e-3)


def test_classes_that_no_video_or_every_video_has_get_a_constant_score(tmp_path):
    features, labels = made()
    labels[:, 1], labels[:, 2] = 0, 1
    fitted = MultiLabelFitter("logistic", FeatureRows.from_array(features), labels).fit(1.0)
    scores = fitted.scores(FeatureRows.from_array(features))
    assert (scores[:, 1] == 0).all()
    assert (scores[:, 2] == 1).all()
    fitted.save(tmp_path / "weights.safetensors", ["a", "b", "c", "d"], {})
    loaded, metadata = LinearClassifier.load(tmp_path / "weights.safetensors")
    assert (loaded.task, metadata["task"]) == ("multi_label", "multi_label")
    np.testing.assert_array_equal(loaded.scores(FeatureRows.from_array(features)), scores)
    with pytest.raises(ValueError, match="no class that some videos show and others do not"):
        MultiLabelFitter("svm", FeatureRows.from_array(features), labels[:, 1:3])


def test_c_is_chosen_by_the_mean_average_precision_of_held_out_groups():
    features, labels = made()
    groups = [f"g{number // 3}" for number in range(len(features))]
    best, means = choose_c("svm", FeatureRows.from_array(features), labels, groups)
    assert means[str(best)] == max(means.values())
    assert 0.7 < max(means.values()) <= 1
    with pytest.raises(ValueError, match="are of one group"):
        choose_c("svm", FeatureRows.from_array(features), labels, ["g"] * len(features))


def test_neighbors_vote_for_each_of_their_labels():
    train, labels = np.eye(3, dtype=np.float32), np.array([[1, 1], [0, 1], [0, 0]], dtype=np.uint8)
    test = normalize_l2(np.array([[3.0, 1.0, 0.0]]))
    scores = nearest_neighbor_scores(FeatureRows.from_array(train), labels, FeatureRows.from_array(test), 2, 2)
    np.testing.assert_allclose(scores, [[0.75, 1.0]], atol=1e-6)


@pytest.fixture(scope="module")
def exported(several_labels_checkpoint, several_labels_dataset, tmp_path_factory):
    """Features of all three splits, in all three formats for the test split."""
    folder = tmp_path_factory.mktemp("features")
    words = ["--checkpoint", str(several_labels_checkpoint), "--data", str(several_labels_dataset), "--layer", "fc6"]
    words += ["--num-clips", "2", "--num-workers", "0", "--accelerator", "cpu"]
    for name in ("val.parquet", "test.parquet", "test.npz", "test.tar"):
        split, _, suffix = name.partition(".")
        form = {"tar": "webdataset"}.get(suffix, suffix)
        assert main(["features", *words, "--split", split, "--format", form, "--out", str(folder / name)]) == 0
    return folder


def test_features_have_the_labels_in_every_format(exported):
    tables = [read_features(exported / f"test.{suffix}")[1] for suffix in ("parquet", "npz", "tar")]
    assert tables[0].column_names[:3] == ["key", "labels", "label_names"]
    assert tables[0].column("label_names").to_pylist()[3] is not None
    assert all(table.to_pylist() == tables[0].to_pylist() for table in tables[1:])


@pytest.mark.parametrize(("classifier", "c"), [("svm", "1"), ("logistic", "auto"), ("knn", None)])
def test_from_features_to_mean_average_precision(exported, tmp_path, capsys, classifier, c):
    words = ["--train", str(exported / "val.parquet"), "--test", str(exported / "test.parquet"), "--out", str(tmp_path)]
    assert main(["linear", *words, "--classifier", classifier, *([] if c is None else ["--C", c])]) == 0
    assert "mAP" in capsys.readouterr().out
    report = json.loads((tmp_path / "report.json").read_text())
    scored = read_scored_videos(tmp_path)
    found = [average_precision_score(scored.labels[:, k], scored.scores[:, k]) for k in range(3)]
    assert report["mean_average_precision"] == pytest.approx(np.mean(found), abs=1e-6)
    assert (report["task"], report["num_train_videos"]) == ("multi_label", 7)
    assert torch.isfinite(torch.from_numpy(scored.scores)).all()


def test_features_of_the_other_task_are_refused(exported):
    train, test = (read_videos(exported / f"{split}.parquet") for split in ("val", "test"))
    assert train.labels.shape == (7, 3)
    refuse_other_features(train, test)
    with pytest.raises(
        ValueError, match=r"one class a video \(task single_label\): export both from datasets of the same"
    ):
        refuse_other_features(train, test._replace(provenance=test.provenance | {"task": "single_label"}))
