"""Draws one scene of the demo: figures on a cluttered ground, with their exact masks.

Outlines have a dark rim, the one cue for where an object ends; textures have edges as strong.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from misc.codes import VOID
from voc12.drawn.figures import FIGURES, PATTERNS, Figure, Floats, Points, ellipse

_SUPERSAMPLING = 4


@dataclass(frozen=True)
class DrawnObject:
    """One object: its class name and the pixels of it that show, (H,W) bool."""

    name: str
    visible: NDArray[np.bool_]


@dataclass(frozen=True)
class Scene:
    """A picture uint8 RGB (H,W,3) and its objects."""

    image: NDArray[np.uint8]
    objects: tuple[DrawnObject, ...]

    def mask(self, class_id: dict[str, int]) -> NDArray[np.uint8]:
        """Class ids (H,W) with a thin border of 255 around each object, as VOC has."""
        mask = np.zeros(self.image.shape[:2], np.uint8)
        for thing in self.objects:
            mask[thing.visible] = class_id[thing.name]
        for thing in self.objects:
            outside = ndimage.binary_dilation(thing.visible) & ~thing.visible
            inside = thing.visible & ~ndimage.binary_erosion(thing.visible, border_value=1)
            mask[outside | inside] = VOID
        return mask


@dataclass(frozen=True)
class Pose:
    """Where a figure stands: box coordinates (u, v) to pixels by matrix @ (u, v) + centre."""

    matrix: NDArray[np.float64]
    centre: NDArray[np.float64]

    def to_box(self, height: int, width: int) -> tuple[Floats, Floats]:
        """Box coordinates u, v (H,W) of each pixel."""
        y, x = np.mgrid[:height, :width] + 0.5
        offsets = np.stack([x - self.centre[0], y - self.centre[1]])
        u, v = np.tensordot(np.linalg.inv(self.matrix), offsets, axes=1)
        return u.astype(np.float32), v.astype(np.float32)

    def coverage(self, outlines: tuple[Points, ...], height: int, width: int) -> Floats:
        """Share of each pixel, 0..1, that the union of `outlines` covers."""
        canvas = Image.new("L", (width * _SUPERSAMPLING, height * _SUPERSAMPLING))
        draw = ImageDraw.Draw(canvas)
        for outline in outlines:
            points = (np.asarray(outline) @ self.matrix.T + self.centre) * _SUPERSAMPLING
            draw.polygon([(float(x), float(y)) for x, y in points], fill=255)
        small = canvas.resize((width, height), Image.Resampling.BOX)
        return np.asarray(small, np.float32) / 255


def smooth_noise(rng: np.random.Generator, height: int, width: int, cell: float) -> Floats:
    """Noise (H,W) of mean 0 and standard deviation 1 whose blobs are about `cell` pixels wide."""
    grid = rng.standard_normal((int(height / cell) + 3, int(width / cell) + 3)).astype(np.float32)
    picture = Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)
    noise = np.asarray(picture, np.float32)
    return (noise - noise.mean()) / (noise.std() + 1e-6)


def draw_scene(rng: np.random.Generator, height: int, width: int, names: tuple[str, ...]) -> Scene:
    """Draw the figures `names` (one or two, from left to right) on a new ground."""
    canvas = _draw_ground(rng, height, width)
    visible: list[NDArray[np.bool_]] = []
    for slot, name in enumerate(names):
        pose = _random_pose(rng, height, width, slot, len(names))
        colours, coverage = _draw_figure(rng, FIGURES[name], pose, canvas)
        canvas += coverage[..., None] * (colours - canvas)
        covered = coverage >= 0.5
        visible = [earlier & ~covered for earlier in visible] + [covered]
    light = 1 + 0.08 * smooth_noise(rng, height, width, max(height, width))
    grain = 0.015 * rng.standard_normal((height, width, 3)).astype(np.float32)
    image = np.clip(canvas * light[..., None] + grain, 0, 1)
    objects = (DrawnObject(name, shown) for name, shown in zip(names, visible, strict=True))
    return Scene((image * 255).round().astype(np.uint8), tuple(objects))


def _random_pose(rng: np.random.Generator, height: int, width: int, slot: int, slots: int) -> Pose:
    """A pose inside the `slot`-th of `slots` side-by-side shares of the picture."""
    room = np.array([width / slots, height]) * (1 if slots == 1 else (1.25, 1))
    angle = np.deg2rad(rng.uniform(-15, 15))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    stretch = np.diag([rng.choice([-1, 1]) * rng.uniform(0.9, 1.1), rng.uniform(0.9, 1.1)])
    scale = min(room) / 2 * rng.uniform(0.8, 1.05)
    free = np.maximum(room / 2 - scale, 0) * rng.uniform(-1, 1, 2)
    middle = np.array([width * (slot + 0.5) / slots, height / 2])
    return Pose(scale * turn @ stretch, middle + free)


def _draw_figure(
    rng: np.random.Generator, figure: Figure, pose: Pose, ground: Floats
) -> tuple[Floats, Floats]:
    """Colours (H,W,3) of the figure and its coverage (H,W)."""
    height, width = ground.shape[:2]
    part = pose.coverage(figure.part, height, width)
    whole = pose.coverage(figure.body + figure.part, height, width)
    u, v = pose.to_box(height, width)
    colours = _body_colours(rng, u, v, ground[whole > 0.5].mean(axis=0))
    wave = PATTERNS[figure.pattern](u * figure.frequency / 2, v * figure.frequency / 2)
    pattern = _between(figure.colours[0], figure.colours[1], wave)
    pattern *= rng.uniform(0.85, 1.15, 3).astype(np.float32)
    colours += part[..., None] * (pattern - colours)
    # A dark rim, as of a rounded body: the one cue that outlines have and textures lack.
    depth = ndimage.distance_transform_edt(whole >= 0.5).astype(np.float32)
    shade = 1 - 0.85 * np.exp(-((depth / 2.8) ** 2)) - 0.12 * np.clip(v, -1, 1)
    return colours * shade[..., None], whole


def _body_colours(rng: np.random.Generator, u: Floats, v: Floats, ground: Floats) -> Floats:
    """One of the shared body textures, in two colours that stand off the mean `ground`."""
    pairs = [(_colour(rng), _colour(rng)) for _ in range(5)]
    pair = max(pairs, key=lambda pair: _contrast(pair[0], pair[1], ground))
    # Textures half as strong as they could be: outlines must stand out among their edges.
    dark, bright = np.asarray(pair) * 0.75 + np.asarray(pair[::-1]) * 0.25
    frequency = rng.uniform(1.5, 3.0)
    turn = rng.uniform(0, np.pi)
    across = (np.cos(turn) * u + np.sin(turn) * v).astype(np.float32)
    along = (np.cos(turn) * v - np.sin(turn) * u).astype(np.float32)
    kind = str(rng.choice(["stripes", "bands", "blotches"]))
    if kind == "blotches":
        height, width = u.shape
        wave = smooth_noise(rng, height, width, rng.uniform(9, 16))
    else:
        wave = PATTERNS[kind](across * frequency, along * frequency)
    return _between(dark, bright, wave)


def _draw_ground(rng: np.random.Generator, height: int, width: int) -> Floats:
    """A ground (H,W,3), 0..1: two zones of noise and planks, strewn with flat shapes."""
    ground = _texture(rng, height, width)
    if rng.random() < 0.6:
        horizon = height * rng.uniform(0.25, 0.6) + 4 * smooth_noise(rng, height, width, width / 3)
        below = (np.arange(height)[:, None] > horizon)[..., None]
        ground = np.where(below, _texture(rng, height, width), ground)
    side = max(height, width)
    for _ in range(rng.integers(2, 6)):
        centre = rng.uniform(0, 1, 2) * [width, height]
        scale = side * rng.uniform(0.04, 0.13)
        pose = Pose(scale * np.array([[1.0, rng.uniform(-0.5, 0.5)], [0.0, 1.0]]), centre)
        corners = int(rng.integers(3, 6))
        angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
        outline = (
            ellipse(0, 0, 1, rng.uniform(0.5, 1))
            if rng.random() < 0.4
            else list(zip(np.cos(angles).tolist(), np.sin(angles).tolist(), strict=True))
        )
        coverage = pose.coverage((outline,), height, width) * rng.uniform(0.4, 0.7)
        ground += coverage[..., None].astype(np.float32) * (_texture(rng, height, width) - ground)
    return ground


def _texture(rng: np.random.Generator, height: int, width: int) -> Floats:
    """Noise between two near colours, sometimes with planks, (H,W,3)."""
    first = _colour(rng)
    first = 0.6 * first + 0.4 * first.mean()
    second = np.clip(first + rng.normal(0, 0.12, 3), 0, 1).astype(np.float32)
    wave = 0.5 * smooth_noise(rng, height, width, rng.uniform(3, 30))
    if rng.random() < 0.3:
        y, x = np.mgrid[:height, :width].astype(np.float32)
        turn = rng.uniform(0, np.pi)
        wave += np.sin((np.cos(turn) * x + np.sin(turn) * y) * (2 * np.pi / rng.uniform(8, 20)))
    return first + (wave[..., None] * 0.5 + 0.5) * (second - first)


def _between(first: object, second: object, wave: Floats) -> Floats:
    """The first colour where `wave` is below 0, the second above, with soft steps."""
    share = 1 / (1 + np.exp(-8 * np.clip(wave, -3, 3)))[..., None]
    start, end = np.asarray(first, np.float32), np.asarray(second, np.float32)
    return (start + share * (end - start)).astype(np.float32)


def _colour(rng: np.random.Generator) -> Floats:
    """A muted RGB colour, 0..1."""
    colour = rng.uniform(0.1, 0.9, 3)
    return (colour.mean() + 0.6 * (colour - colour.mean())).astype(np.float32)


def _contrast(first: Floats, second: Floats, ground: Floats) -> float:
    """How far two colours are from the ground and from each other."""
    to_ground = np.abs((first + second) / 2 - ground).sum()
    return float(to_ground + 0.6 * np.abs(first - second).sum())
