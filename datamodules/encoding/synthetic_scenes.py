"""Scenes of the synthetic videos: textured patches on a static textured background that share one motion.

The classes are translation in one of four directions, rotation in either direction, growing and shrinking; nothing but
the motion depends on the class.

Why a single frame does not reveal the class: a frame is determined by the video's appearance (shapes, textures, colors,
background, offsets between the patches; drawn from the same distribution for every class) and by a state of four
numbers. Each is measured in turns of a circle, so that it wraps around:

    x, y   position, as a fraction of width and height; a patch that leaves the frame on one side enters on the other
    angle  orientation
    zoom   logarithm of the size; it goes from the smallest to the largest, where the patch has faded out, and starts
           again at the smallest, where it fades in. The patches are evenly spaced over the turn, so that most of them
           are opaque at any time

The state of the middle frame is uniform on this four-dimensional torus, and a class only adds velocity * time to it.
A uniform point on a torus stays uniform under any shift: at every frame of every class the state has the same
distribution, independent of the appearance. Several frames together reveal the class, as intended; so may compression
artifacts, a little, of which the encoder leaves few. The velocity is constant, so a growing video is a shrinking one
played backwards, and any window of a video shows its motion.

Positions and colors are float64 until they are rounded to bytes, so that differences between processors in the last
digit of a sine do not change the pixels.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Class -> direction of motion in (x, y, angle, zoom); y points down, so a growing angle is a clockwise rotation.
MOTIONS: dict[str, tuple[int, int, int, int]] = {
    "growing": (0, 0, 0, 1),
    "moving down": (0, 1, 0, 0),
    "moving left": (-1, 0, 0, 0),
    "moving right": (1, 0, 0, 0),
    "moving up": (0, -1, 0, 0),
    "rotating clockwise": (0, 0, 1, 0),
    "rotating counterclockwise": (0, 0, -1, 0),
    "shrinking": (0, 0, 0, -1),
}

SHIFT_PER_FRAME = (0.025, 0.045)  # fraction of the frame's height: 1.6 to 2.9 pixels at 64
TURN_PER_FRAME = (0.022, 0.036)  # fraction of a full turn: 8 to 13 degrees
ZOOM_PER_FRAME = (0.030, 0.048)  # fraction of the way from the smallest to the largest size: 3.8 to 6.2 % in size
RADII = (0.10, 0.35)  # smallest and largest radius, fraction of the frame's height; below 0.5, or patches self-overlap
FADE = 0.18  # fraction of the zoom turn over which a patch fades in, and out again
PATCHES = 5
NOISE = 1.5  # standard deviation of the simulated camera noise, in gray levels


class WaveTexture(NamedTuple):
    """A smooth procedural texture: a sum of W plane waves, mapped to (-1, 1) by softsign, that blends two colors.

    Attributes:
        frequencies: (W, 2), cycles per unit of length along x and y.
        phases: (W,), radians.
        gain: factor of the sum before the softsign: 1 gives soft clouds, 6 gives stripes and checks.
        colors: (2, 3), RGB in [0, 255].
    """

    frequencies: Array
    phases: Array
    gain: float
    colors: Array

    def sample_colors(self, x: Array, y: Array) -> Array:
        """Colors (..., 3) in [0, 255] at the coordinates x and y, broadcast against each other."""
        wave = sum(
            np.sin(2 * math.pi * (fx * x + fy * y) + phase)
            for (fx, fy), phase in zip(self.frequencies, self.phases, strict=True)
        )
        squashed = self.gain * np.asarray(wave)
        mix = (0.5 + 0.5 * squashed / (1 + np.abs(squashed)))[..., None]
        blended: Array = self.colors[0] * (1 - mix) + self.colors[1] * mix
        return blended


class Patch(NamedTuple):
    """One textured object: a disk with a wavy rim, r(angle) = 1 - depth + depth * cos(lobes * angle), times a radius.

    Attributes:
        offset: (4,), added to the scene's state (x, y, angle, zoom), in turns.
        lobes: number of waves of the rim, 2 to 5.
        depth: amplitude of the waves, as a fraction of the radius.
        texture: in the patch's own coordinates, where the radius is 1, so that it turns and grows with the patch.
    """

    offset: Array
    lobes: int
    depth: float
    texture: WaveTexture


@dataclass(frozen=True, slots=True)
class Scene:
    """The complete description of one video before it is drawn.

    Attributes:
        state: (4,), (x, y, angle, zoom) in the middle of the video, in turns.
        velocity: (4,), turns per frame; the only part that depends on the class.
        patches: drawn in this order, the last on top.
        background: texture in units of the frame's height; it does not move.
        noise_seed: seed of the camera noise.
    """

    state: Array
    velocity: Array
    patches: tuple[Patch, ...]
    background: WaveTexture
    noise_seed: int


def draw_scene(label: str, rng: np.random.Generator, aspect: float) -> Scene:
    """Draws a scene; every class takes the same number of draws from the same distributions.

    Args:
        label: a class of `MOTIONS`.
        rng: generator of the random draws.
        aspect: width / height of the frame, which makes speeds equal in both directions.
    """
    state = rng.uniform(size=4)
    shift, turn, zoom = (rng.uniform(*bounds) for bounds in (SHIFT_PER_FRAME, TURN_PER_FRAME, ZOOM_PER_FRAME))
    tilt = math.radians(rng.uniform(-10, 10))  # translations are not exactly along an axis
    patches = tuple(_draw_patch(rng, number / PATCHES) for number in range(PATCHES))
    background = _draw_waves(rng, frequency=(1.0, 5.0), gain=(0.4, 2.0), dark=(60, 130), bright=(110, 190))
    x, y, angle, scale = MOTIONS[label]
    along_x, along_y = x * math.cos(tilt) - y * math.sin(tilt), x * math.sin(tilt) + y * math.cos(tilt)
    velocity = np.array([along_x * shift / aspect, along_y * shift, angle * turn, scale * zoom])
    return Scene(state, velocity, patches, background, noise_seed=int(rng.integers(2**63)))


def _draw_patch(rng: np.random.Generator, place: float) -> Patch:
    # Along x by `place`, along y by twice that: a lattice on the torus, so that patches start apart.
    x, y = np.array([place, 2 * place]) + rng.uniform(-0.08, 0.08, size=2)
    offset = np.array([x, y, rng.uniform(), place])
    lobes, depth = int(rng.integers(2, 6)), rng.uniform(0.05, 0.2)
    texture = _draw_waves(rng, frequency=(0.35, 1.1), gain=(1.0, 6.0), dark=(0, 80), bright=(165, 255))
    return Patch(offset, lobes, depth, texture)


def _draw_waves(
    rng: np.random.Generator,
    frequency: tuple[float, float],
    gain: tuple[float, float],
    dark: tuple[int, int],
    bright: tuple[int, int],
) -> WaveTexture:
    directions = rng.uniform(0, 2 * math.pi, size=3)
    lengths = rng.uniform(*frequency, size=3)
    frequencies = np.stack([np.cos(directions) * lengths, np.sin(directions) * lengths], axis=1)
    colors = np.stack([rng.uniform(*dark, size=3), rng.uniform(*bright, size=3)])
    return WaveTexture(frequencies, rng.uniform(0, 2 * math.pi, size=3), rng.uniform(*gain), colors)


def render_scene(
    scene: Scene, num_frames: int, width: int, height: int, noise: float = NOISE
) -> Iterator[NDArray[np.uint8]]:
    """Draws a scene's frames one after the other: uint8 (height, width, 3), RGB.

    Args:
        scene: the scene to draw.
        num_frames: number of frames; the scene's `state` holds at the moment (num_frames - 1) / 2.
        width: pixels.
        height: pixels.
        noise: standard deviation of the gray noise, in gray levels; 0 for none.
    """
    rng = np.random.default_rng(scene.noise_seed)
    ys, xs = (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / height
    background = scene.background.sample_colors(xs[None, :], ys[:, None])
    for index in range(num_frames):
        state = scene.state + (index - (num_frames - 1) / 2) * scene.velocity
        canvas = background.copy()
        for patch in scene.patches:
            _paint(canvas, patch, (state + patch.offset) % 1.0)
        canvas += noise * rng.standard_normal((height, width, 1))
        yield np.clip(np.rint(canvas), 0, 255).astype(np.uint8)


def _paint(canvas: Array, patch: Patch, state: Array) -> None:
    """Blends a patch into the canvas (H, W, 3); parts beyond one side of the frame appear on the opposite side."""
    height, width = canvas.shape[:2]
    x, y, angle, zoom = state
    smallest, largest = RADII
    radius = height * smallest * (largest / smallest) ** zoom  # pixels
    fade = min(zoom, 1 - zoom) / FADE
    opacity = 1.0 if fade >= 1 else fade * fade * (3 - 2 * fade)
    reach = math.ceil(radius) + 1
    columns = np.arange(math.floor(x * width) - reach, math.floor(x * width) + reach + 1)
    rows = np.arange(math.floor(y * height) - reach, math.floor(y * height) + reach + 1)
    right, down = (columns + 0.5 - x * width)[None, :] / radius, (rows + 0.5 - y * height)[:, None] / radius
    turn = 2 * math.pi * angle
    u = math.cos(turn) * right + math.sin(turn) * down
    v = math.cos(turn) * down - math.sin(turn) * right
    rim = 1 - patch.depth + patch.depth * np.cos(patch.lobes * np.arctan2(v, u))
    inside = np.clip((rim - np.hypot(u, v)) * radius + 0.5, 0, 1)  # one pixel of soft edge
    alpha = (opacity * inside)[..., None]
    where = np.ix_(rows % height, columns % width)
    canvas[where] = (1 - alpha) * canvas[where] + alpha * patch.texture.sample_colors(u, v)
