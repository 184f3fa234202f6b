"""A synthetic talking head: a public-domain photograph, animated by smooth deformations of known size."""

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
import skimage.data

from lib.sources.demo.patterns import draw_pattern
from lib.sources.demo.voice import SAMPLE_RATE, draw_turns, synthesise

WIDTH, HEIGHT = 320, 240

_CROP = (slice(0, 240), slice(65, 385))  # of scikit-image's astronaut (Eileen Collins; NASA, public domain)
_LEFT_EYE, _RIGHT_EYE = np.array([140.4, 101.5]), np.array([181.9, 103.1])
_CHIN, _CENTRE = np.array([158.0, 158.0]), np.array([160.0, 115.0])
CENTRE, POSE_SCALE = _CENTRE, 0.85
"""The point around which the head turns, and the size of the frame relative to the photograph in the mean pose."""
_ABOVE = np.array([0, -16])  # from an eye to its brow
MOVING_PARTS = {"mouth": (_CHIN, 14), "left brow": (_LEFT_EYE + _ABOVE, 10), "right brow": (_RIGHT_EYE + _ABOVE, 10)}
"""The parts that move at the planted rate: centre and standard deviation in pixels of the photograph."""
_MOUTH_PIXELS, _BROW_PIXELS, _BLINK_PIXELS, _SHAPE_PIXELS = 9.0, 5.0, 4.0, 3.0  # largest displacements
_LOUDNESS_RATE = 0.4, 2.0  # Hz, of the voice
_WARMTH_LEVELS, _TINT_LEVELS = 16.0, 5.0  # of 255, in Cr and Cb
_FLUSH_TINTS = 4.0  # largest tint of a flush, in units of the largest tint of an identity
_PATTERN_TINTS = 3.0  # in the same units
_PATTERN_RATES = 2.2, 0.4  # Hz, of mouth and brows
_NOD_DEGREES = 6.0, 12.0  # amplitude of the nods, drawn for each clip
_NOSE = np.array([161.5, 123.0])
_DEPTH, _NOSE_DEPTH = 26.0, 23.0  # pixels in front of the axis of a nod: the face, and the tip of the nose in addition


@dataclass(frozen=True)
class Identity:
    """The properties that all clips of a video share: face shape, tint and background, drawn with a seed."""

    seed: int


@dataclass(frozen=True)
class Performance:
    """The planted properties of a clip. Each can be detected from one kind of evidence only, given in brackets.

    warmth: colour of the face from -1 (bluish) to 1 (reddish), at constant luma (appearance).
    rate: frequency of mouth opening and brow raising in Hz, at constant amplitude (motion).
    glide: change of the voice's pitch over the clip, from -1 (an octave down) to 1 (an octave up). A fall and an equal rise
    have the same statistics except for temporal order (order of the audio).
    flush: tint in addition to the person's own at the start of the clip, from -1 (green) to 1 (pink); 0 disables it.
    turn: the tint has the opposite sign in one quarter of the clip: the last if `turn` is above 0, else the second. Pink and
    green are equally likely at any time (order of the frames).
    nods: frequency of nods in Hz, at an amplitude of 6 to 12 degrees that is drawn for each clip (motion of the head); None:
    the head does not nod.
    speaking: fraction of the time with voice, in up to three turns (audio); None: a voice without pauses.
    together: 1 or -1: in each eighth of the clip the face is pink or green, and mouth and brows are fast or slow, in a
    random pattern. Pink and fast come together (1), or pink and slow (-1); each pattern alone is the same for both. 0: no
    pattern, and `rate` is the rate of mouth and brows.
    seed: of the phases, blinks, head motion, lighting, loudness and mean pitch, which carry no information.
    """

    warmth: float
    rate: float
    glide: float
    seed: int
    flush: float = 0.0
    turn: float = 0.0
    nods: float | None = None
    speaking: float | None = None
    together: int = 0


def render(identity: Identity, performance: Performance, seconds: float, fps: int) -> tuple[np.ndarray, np.ndarray]:
    """Return RGB uint8 frames (T, HEIGHT, WIDTH, 3) and the voice, float32 in [-1, 1] at SAMPLE_RATE."""
    rng = np.random.default_rng(performance.seed)
    times = np.arange(round(seconds * fps)) / fps
    more = np.random.default_rng([performance.seed, 1])  # leaves the other draws as they are
    colour, cycles = np.zeros(len(times)), performance.rate * times
    if performance.together:
        colour = draw_pattern(len(times), np.random.default_rng([performance.seed, 2]))
        cycles = np.cumsum(np.where(performance.together * colour > 0, *_PATTERN_RATES)) / fps
    mouth, brows = _articulation(times, cycles, rng), _articulation(times, cycles, rng)
    blink = _blinks(times, rng)
    poses = _poses(times, rng)
    light = _lighting(rng)
    flicker = 1 + 0.03 * np.sin(2 * np.pi * (rng.uniform(0.1, 0.3) * times + rng.uniform()))

    photograph, mask = _photograph()
    look = np.random.default_rng(identity.seed)
    shape = _shape_field(look)
    tint = look.uniform(-1, 1) + _FLUSH_TINTS * _flushes(len(times), performance.flush, performance.turn)
    background = _background(look)
    tint = tint + _PATTERN_TINTS * colour
    pitch = _nods(times, performance.nods, more)
    frames = np.empty((len(times), HEIGHT, WIDTH, 3), np.uint8)
    for index, pose in enumerate(poses):
        if index == 0 or tint[index] != tint[index - 1]:
            picture = _tint(photograph, performance.warmth, tint[index])
        field = shape + mouth[index] * _mouth_field() + brows[index] * _brow_field() + blink[index] * _blink_field()
        if performance.nods is not None:
            field = field + _pitch_field(pitch[index])
        around = cv2.warpAffine(field, pose, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        source = (_grid() @ pose[:, :2].T + pose[:, 2] + around).astype(np.float32)
        head = cv2.remap(picture, source, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        alpha = cv2.remap(mask, source, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[..., None]
        composed = (alpha * head + (1 - alpha) * background) * (light * flicker[index])
        frames[index] = np.clip(composed, 0, 255)
    loudness = _articulation(times, rng.uniform(*_LOUDNESS_RATE) * times, rng)  # independent of the mouth's rate
    gate = None
    if performance.speaking is not None:
        gate = draw_turns(performance.speaking, len(times) * SAMPLE_RATE // fps, more)
    return frames, synthesise(loudness, fps, performance.glide, rng, gate)


def _flushes(count: int, flush: float, turn: float) -> np.ndarray:
    """Return the tint of each of `count` frames, in units of the largest tint; at least 0.5 unless `flush` is 0."""
    quarters = np.array([1, 1, 1, -1] if turn > 0 else [1, -1, 1, 1])
    return np.sign(flush) * (1 + abs(flush)) / 2 * quarters[4 * np.arange(count) // count]


def _articulation(times: np.ndarray, cycles: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a raised sine in [0, 1] of slightly varying rate. Its distribution of values does not depend on the rate.

    cycles: number of periods (T,) since the beginning, at each of the times.
    """
    waver = 0.15 * np.sin(2 * np.pi * (0.37 * times + rng.uniform()))
    return 0.5 + 0.5 * np.sin(2 * np.pi * (cycles + rng.uniform()) + waver)


def _nods(times: np.ndarray, rate: float | None, rng: np.random.Generator) -> np.ndarray:
    """Return the pitch of the head (T,) in radians; positive: it looks down. Its range does not depend on the rate."""
    if rate is None:
        return np.zeros(len(times))
    return np.radians(rng.uniform(*_NOD_DEGREES)) * (2 * _articulation(times, rate * times, rng) - 1)


def _blinks(times: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    moments = rng.uniform(0, times[-1], size=1 + rng.poisson(0.25 * times[-1]))
    return np.exp(-(((times[:, None] - moments) / 0.08) ** 2)).max(axis=1)


def _poses(times: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return affine maps (T, 2, 3) from output to photograph: the head slowly sways, tilts and approaches."""
    amplitudes, rates, phases = np.array([4.0, 3.0, 0.05, 0.03]), rng.uniform(0.1, 0.3, 4), rng.uniform(size=4)
    x, y, angle, zoom = amplitudes[:, None] * np.sin(2 * np.pi * (rates[:, None] * times + phases[:, None]))
    scale = POSE_SCALE * np.exp(zoom)
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    linear = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)
    shift = _CENTRE - linear @ _CENTRE - np.stack([x, y], -1)
    return np.concatenate([linear, shift[..., None]], -1)


def _lighting(rng: np.random.Generator) -> np.ndarray:
    direction, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.12)
    ramp = (_grid() - [WIDTH / 2, HEIGHT / 2]) @ [np.cos(direction), np.sin(direction)] / (WIDTH / 2)
    return (rng.uniform(0.85, 1.1) * (1 + strength * ramp))[..., None].astype(np.float32)


def _tint(picture: np.ndarray, warmth: float, tint: float) -> np.ndarray:
    """Shift Cr and Cb. Luma, and so the optical flow of the grey image, stays the same (up to clipping)."""
    luma_chroma = cv2.cvtColor(picture, cv2.COLOR_RGB2YCrCb)
    warmer, tinted = _WARMTH_LEVELS * warmth, _TINT_LEVELS * tint
    luma_chroma += np.array([0, tinted + warmer, tinted - warmer], np.float32)
    return np.clip(cv2.cvtColor(luma_chroma, cv2.COLOR_YCrCb2RGB), 0, 255)


def _background(rng: np.random.Generator) -> np.ndarray:
    coarse = rng.uniform(70, 190, size=3) + rng.normal(0, 20, size=(4, 5, 3))
    return np.clip(cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC), 0, 255)


def _shape_field(rng: np.random.Generator) -> np.ndarray:
    """Return six random smooth displacements (H, W, 2) around the face, which give it another shape."""
    field = np.zeros((HEIGHT, WIDTH, 2))
    for _ in range(6):
        centre = _CENTRE + rng.uniform(-40, 40, size=2)
        field += _bump(centre, rng.uniform(18, 35)) * rng.uniform(-_SHAPE_PIXELS, _SHAPE_PIXELS, size=2)
    return field


@cache
def _mouth_field() -> np.ndarray:
    return _bump(*MOVING_PARTS["mouth"]) * [0, -_MOUTH_PIXELS]


@cache
def _brow_field() -> np.ndarray:
    return (_bump(*MOVING_PARTS["left brow"]) + _bump(*MOVING_PARTS["right brow"])) * [0, _BROW_PIXELS]


@cache
def _blink_field() -> np.ndarray:
    """Return displacements (H, W, 2) that stretch the eyelid over each eye."""
    return (_bump(_LEFT_EYE, 7) + _bump(_RIGHT_EYE, 7)) * [0, -_BLINK_PIXELS * 2]


def _pitch_field(angle: float) -> np.ndarray:
    """Return displacements (H, W, 2) that rotate the head about a horizontal axis behind the face. angle: in radians."""
    depth, down = _depth()
    return (down * (1 / np.cos(angle) - 1) - depth * np.sin(angle)) * [0, 1]


@cache
def _depth() -> tuple[np.ndarray, np.ndarray]:
    """Return how far each pixel (H, W, 1) is in front of the axis of a nod and below it; both fade to 0 outside the head."""
    inside = np.zeros((HEIGHT, WIDTH), np.float32)
    cv2.ellipse(inside, (161, 112), (40, 62), 0, 0, 360, color=1.0, thickness=cv2.FILLED)
    inside = cv2.GaussianBlur(inside, (0, 0), 9)[..., None].astype(float)
    below = _grid()[..., 1:] - _CENTRE[1]
    return inside * _DEPTH + _bump(_NOSE, 9) * _NOSE_DEPTH, inside * below


@cache
def _photograph() -> tuple[np.ndarray, np.ndarray]:
    """Return the photograph (float32 RGB) and a soft mask (H, W) of head and shoulders."""
    picture = skimage.data.astronaut()[_CROP].astype(np.float32)
    mask = np.zeros((HEIGHT, WIDTH), np.float32)
    cv2.ellipse(mask, (162, 92), (68, 84), 0, 0, 360, color=1.0, thickness=cv2.FILLED)
    cv2.fillPoly(mask, [np.array([[110, 160], [220, 160], [300, HEIGHT], [20, HEIGHT]])], 1.0)
    return picture, cv2.GaussianBlur(mask, (0, 0), 5)


@cache
def _grid() -> np.ndarray:
    return np.stack(np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT)), -1).astype(np.float64)


def _bump(centre: np.ndarray, sigma: float) -> np.ndarray:
    return np.exp(-((_grid() - centre) ** 2).sum(-1, keepdims=True) / (2 * sigma**2))
