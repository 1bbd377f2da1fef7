"""What synthetic videos show: the motion of the class, and in a single frame nothing of it."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from datamodules.encoding.synthetic_scenes import FADE, MOTIONS, Scene, WaveTexture, draw_scene, render_scene

LABELS = list(MOTIONS)
OPPOSITES = [
    ("growing", "shrinking"),
    ("moving left", "moving right"),
    ("moving up", "moving down"),
    ("rotating clockwise", "rotating counterclockwise"),
]


def draw(label: str, seed: int, width: int = 64, height: int = 48) -> Scene:
    return draw_scene(label, np.random.default_rng(seed), width / height)


def frame(
    scene: Scene, time: float = 0.0, width: int = 64, height: int = 48, noise: float = 0.0
) -> NDArray[np.float64]:
    """The frame at a time from the middle, in frames."""
    moved = replace(scene, state=scene.state + time * scene.velocity)
    return next(render_scene(moved, 1, width, height, noise)).astype(float)


def on_gray(scene: Scene) -> Scene:
    """One opaque patch of medium size on a gray ground, at the middle of the frame."""
    gray = WaveTexture(np.ones((1, 2)), np.zeros(1), 1.0, np.full((2, 3), 128.0))
    patch = scene.patches[0]._replace(offset=np.zeros(4))
    return replace(scene, state=np.full(4, 0.5), patches=(patch,), background=gray)


@pytest.mark.parametrize("label", LABELS)
def test_nothing_but_the_velocity_depends_on_the_class(label: str) -> None:
    scene, other = draw(label, 5), draw("growing", 5)
    same = replace(scene, velocity=other.velocity)
    np.testing.assert_array_equal(frame(same, time=7.3, noise=2.0), frame(other, time=7.3, noise=2.0))
    np.testing.assert_array_equal(frame(scene), frame(other))
    assert label == "growing" or not np.array_equal(frame(scene, 6), frame(other, 6))


@pytest.mark.parametrize("time", [-17.5, 0.0, 9.0])
@pytest.mark.parametrize("label", LABELS)
def test_the_state_is_uniform_at_every_time(label: str, time: float) -> None:
    scenes = [draw(label, seed) for seed in range(500)]
    states = np.sort(np.stack([(scene.state + time * scene.velocity) % 1 for scene in scenes]), axis=0)
    distance = np.abs(states - ((np.arange(500) + 0.5) / 500)[:, None]).max(axis=0)  # Kolmogorov's, for each coordinate
    assert distance.max() < 2.2 / np.sqrt(500)  # exceeded by one in 8,000 uniform samples


@pytest.mark.parametrize(("label", "opposite"), OPPOSITES)
def test_opposite_classes_are_each_other_played_backwards(label: str, opposite: str) -> None:
    forward = list(render_scene(draw(label, 3), 12, 64, 48, noise=0))
    backward = list(render_scene(draw(opposite, 3), 12, 64, 48, noise=0))
    np.testing.assert_array_equal(forward, backward[::-1])


@pytest.mark.parametrize(
    ("label", "shift"),
    [("moving right", (0, 3)), ("moving left", (0, -3)), ("moving down", (3, 0)), ("moving up", (-3, 0))],
)
def test_translation_shifts_pixels_and_wraps_around(label: str, shift: tuple[int, int]) -> None:
    x, y, angle, zoom = MOTIONS[label]
    scene = on_gray(draw(label, 1))
    scene = replace(scene, velocity=np.array([x / 64, y / 48, angle, zoom]))
    for start in (0, 30):  # after 30 frames the patch lies across the border, horizontally or vertically
        moved = np.roll(frame(scene, start), shift, axis=(0, 1))
        np.testing.assert_allclose(frame(scene, start + 3), moved, atol=1)


def test_rotation_is_clockwise_as_one_sees_it() -> None:
    scene = on_gray(draw("rotating clockwise", 2))
    assert scene.velocity[2] > 0
    quarter = replace(scene, state=scene.state + np.array([0, 0, 0.25, 0]))
    turned = np.rot90(frame(scene, width=48), k=-1)
    np.testing.assert_allclose(frame(quarter, width=48), turned, atol=1)


def test_growing_grows_and_most_patches_are_always_opaque() -> None:
    scene = on_gray(draw("growing", 4))
    areas = [(np.abs(frame(scene, time) - 128).max(axis=-1) > 4).sum() for time in range(-5, 6)]
    assert all(np.diff(areas) > 0)
    whole = draw("growing", 4)
    for time in range(36):
        zooms = [(whole.state + time * whole.velocity + patch.offset)[3] % 1 for patch in whole.patches]
        assert sum(FADE < zoom < 1 - FADE for zoom in zooms) >= 3


@pytest.mark.parametrize("label", LABELS)
def test_any_sixteen_frames_hold_a_large_motion(label: str) -> None:
    for seed in range(20):
        velocity = draw(label, seed).velocity
        x, y, angle, zoom = np.abs(16 * velocity)
        assert max(x * 64 / 48, y) > 0.3 or angle > 0.25 or zoom > 0.45  # of the height, of a turn, of the zoom
        assert np.count_nonzero(velocity) == (2 if label.startswith("moving") else 1)


def features(pixels: NDArray[np.float64]) -> NDArray[np.float64]:
    """What tells position, size and color of a frame (48, 64, 3): coarse pixels, a coarse map of contrast, moments."""
    contrast = np.abs(pixels - np.median(pixels, axis=(0, 1))).max(axis=-1)
    coarse = pixels.reshape(12, 4, 16, 4, 3).mean(axis=(1, 3))
    coarse_contrast = contrast.reshape(12, 4, 16, 4).mean(axis=(1, 3))
    weight = contrast / contrast.sum()
    ys, xs = np.mgrid[:48, :64]
    mean_y, mean_x = (weight * ys).sum(), (weight * xs).sum()
    moments = [mean_y, mean_x, (weight * (ys - mean_y) ** 2).sum(), (weight * (xs - mean_x) ** 2).sum()]
    return np.concatenate([coarse.ravel(), coarse_contrast.ravel(), moments, contrast.mean(keepdims=True).ravel()])


def accuracies(pixels: NDArray[np.float64], labels: NDArray[np.int64], num_train: int) -> list[float]:
    """Of a linear and a nearest neighbor classifier, on what comes after the first `num_train` frames."""
    inputs = np.stack([features(image) for image in pixels])
    models = RidgeClassifier(alpha=300), KNeighborsClassifier(5)
    fitted = [make_pipeline(StandardScaler(), model).fit(inputs[:num_train], labels[:num_train]) for model in models]
    return [float(model.score(inputs[num_train:], labels[num_train:])) for model in fitted]


def sample_frames(start_alike: bool) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """1,440 videos' frames, each at a random time; `start_alike` begins all in one state, which must give them away."""
    times = np.random.default_rng(0).uniform(-17.5, 17.5, size=1440)
    labels = np.arange(1440) % len(LABELS)
    images = []
    for number, (time, label) in enumerate(zip(times, labels, strict=True)):
        scene = draw(LABELS[label], 10_000 + number)
        if start_alike:
            scene, time = replace(scene, state=np.full(4, 0.25)), 10.0
        images.append(frame(scene, time, noise=1.5))
    return np.stack(images), labels


def test_a_single_frame_says_nothing_about_the_class() -> None:
    linear, nearest = accuracies(*sample_frames(start_alike=False), num_train=960)
    chance, deviation = 1 / 8, np.sqrt(1 / 8 * 7 / 8 / 480)  # 0.125 and 0.015
    assert linear < chance + 3 * deviation
    assert nearest < chance + 3 * deviation


def test_the_same_classifiers_see_it_where_a_frame_does_tell() -> None:
    linear, _ = accuracies(*sample_frames(start_alike=True), num_train=960)
    assert linear > 0.4
