"""Content rows of the synthetic world: what a frozen network would see in the photos.

A photo is taken in one of ``scenes`` scenes (on a model, laid flat, close up), and scene ``m``
turns each plane of the look by ``m / scenes`` of a full turn: the same look excites other channels
in another scene. The content row is a sparse, non-negative, far from centered response, like a
CNN's after ReLU, in which nuisances (pose, light, background) have more variance than the look::

    x_d = relu(look_gain * <a_d, turned look> + scene_gain * b_d[scene]
               + nuisance_gain * <c_d, nuisance> + noise_gain * eps - threshold_d)

A channel ``d`` answers to the look (``a_d``), to the scene (``b_d``) or to neither, never to both.
A linear map of the row therefore sees the look turned by an unknown angle, and can at best undo
the average turn. To recover the look, scene and turned look have to be *multiplied*: a compressor
with hidden layers can, a linear one cannot; it can only hand both on to a net that does.

Shape legend
    N   items               D   content width          P   photos (rows of the table)
    K   look dims           A   look planes            M   scenes
    Q   nuisance dims       J   all causes of a channel: look, scene and nuisance
"""

import numpy as np

from dicm_jax.data.schema import Features
from dicm_jax.data.synthetic.config import WorldConfig

LOOK_CHANNELS = 0.35
SCENE_CHANNELS = 0.15
"""Shares of the channels that answer to the look and to the scene; the rest to nuisance alone."""
_CHUNK = 512
"""Photos taken at a time, which bounds the memory of float rows."""


def take_photos(
    config: WorldConfig, look_PK: np.ndarray, scene_P: np.ndarray, rng: np.random.Generator
) -> Features:
    """Content rows of photos of these looks in these scenes: uint8 with a float32 scale per row."""
    weight_JD, threshold_D = _channels(config, rng)
    n = len(scene_P)
    nuisance_PQ = rng.standard_normal((n, config.nuisance_dims))
    shown_PM = np.eye(config.scenes)[scene_P]
    cause_PJ = np.concatenate([_turn(config, look_PK, scene_P), shown_PM, nuisance_PQ], axis=1)
    rows_PD = np.empty((n, config.content_width), np.uint8)
    scale_P = np.empty(n, np.float32)
    for start in range(0, n, _CHUNK):
        rows = slice(start, start + _CHUNK)
        # einsum, because the rounding of a BLAS product can depend on the number of threads
        x_PD = np.einsum("pj,jd->pd", cause_PJ[rows].astype(np.float32), weight_JD)
        noise_PD = rng.standard_normal(x_PD.shape, np.float32)
        x_PD += np.float32(config.noise_gain) * noise_PD - threshold_D
        np.maximum(x_PD, 0, out=x_PD)
        scale_P[rows] = np.maximum(x_PD.max(1), 1e-6) / 255
        rows_PD[rows] = np.rint(x_PD / scale_P[rows, None])
    return Features(rows_VD=rows_PD, scale_V=scale_P)


def _channels(config: WorldConfig, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Weights ``[J, D]`` and thresholds ``[D]`` of the channels, float32."""
    width = config.content_width
    kind_D = rng.random(width)
    look_DK = _unit_rows(rng.standard_normal((width, config.look_dims)))
    look_DK *= config.look_gain * (kind_D < LOOK_CHANNELS)[:, None]
    is_scene_D = (kind_D >= LOOK_CHANNELS) & (kind_D < LOOK_CHANNELS + SCENE_CHANNELS)
    scene_DM = rng.standard_normal((width, config.scenes)) * config.scene_gain
    scene_DM *= is_scene_D[:, None]
    nuisance_DQ = _unit_rows(rng.standard_normal((width, config.nuisance_dims)))
    nuisance_DQ *= config.nuisance_gain
    threshold_D = rng.uniform(0.0, 1.0, width) * np.sqrt(config.nuisance_gain**2 + 0.5)
    weight_DJ = np.concatenate([look_DK, scene_DM, nuisance_DQ], axis=1)
    return weight_DJ.T.astype(np.float32), threshold_D.astype(np.float32)


def _turn(config: WorldConfig, look_NK: np.ndarray, scene_N: np.ndarray) -> np.ndarray:
    """The look as its scene shows it: each plane, dims ``2a`` and ``2a + 1``, turned alike."""
    angle_N = 2 * np.pi * scene_N / config.scenes
    cos_N1, sin_N1 = np.cos(angle_N)[:, None], np.sin(angle_N)[:, None]
    x_NA, y_NA = look_NK[:, 0::2], look_NK[:, 1::2]
    turned_NA2 = np.stack([cos_N1 * x_NA - sin_N1 * y_NA, sin_N1 * x_NA + cos_N1 * y_NA], axis=-1)
    return turned_NA2.reshape(look_NK.shape)


def _unit_rows(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.sqrt((vectors**2).sum(-1, keepdims=True))
