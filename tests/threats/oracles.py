"""Warps, colour spaces and table lookups in plain float64 numpy, written from the definitions."""

from itertools import product

import numpy as np

PRIMARIES = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
WHITE = PRIMARIES.sum(1)


def chromaticity(xyz):
    """u′ and v′ of XYZ in the last axis; black has the white's."""
    total = xyz @ np.array([1.0, 15.0, 3.0])
    white = WHITE @ np.array([1.0, 15.0, 3.0])
    safe = np.where(total > 0, total, 1)
    return (
        np.where(total > 0, 4 * xyz[..., 0] / safe, 4 * WHITE[0] / white),
        np.where(total > 0, 9 * xyz[..., 1] / safe, 9 * WHITE[1] / white),
    )


def luv_of(images):
    """CIE LUV of sRGB images `[N, 3, H, W]`: L in 0 … 100, u, v (CIE 15:2004)."""
    rgb = np.moveaxis(images, 1, -1)
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = linear @ PRIMARIES.T
    y = xyz[..., 1]
    lightness = np.where(y > (6 / 29) ** 3, 116 * np.cbrt(y) - 16, (29 / 3) ** 3 * y)
    (u, v), (white_u, white_v) = chromaticity(xyz), chromaticity(WHITE)
    return np.stack((lightness, 13 * lightness * (u - white_u), 13 * lightness * (v - white_v)), 1)


def rgb_of(luv):
    """sRGB, not clamped, of CIE LUV `[N, 3, H, W]` with L > 0."""
    lightness, u, v = np.moveaxis(luv, 1, 0)
    white_u, white_v = chromaticity(WHITE)
    u, v = u / (13 * lightness) + white_u, v / (13 * lightness) + white_v
    y = np.where(lightness > 8, ((lightness + 16) / 116) ** 3, lightness * (3 / 29) ** 3)
    xyz = np.stack((y * 9 * u / (4 * v), y, y * (12 - 3 * u - 20 * v) / (4 * v)), -1)
    linear = xyz @ np.linalg.inv(PRIMARIES).T
    rgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.abs(linear) ** (1 / 2.4) - 0.055)
    return np.moveaxis(rgb, -1, 1)


def warped(images, flow):
    """x sampled at each pixel's place + flow, pixel by pixel; the image spans [-1, 1] and lies in black."""
    height, width = images.shape[2:]
    result = np.zeros_like(images)
    for n, i, j in product(range(len(images)), range(height), range(width)):
        across = ((2 * j + 1) / width - 1 + flow[n, 0, i, j] + 1) * width / 2 - 0.5
        down = ((2 * i + 1) / height - 1 + flow[n, 1, i, j] + 1) * height / 2 - 0.5
        for row, column in product(range(height), range(width)):  # every pixel is a tent one pixel wide
            tent = max(0, 1 - abs(row - down)) * max(0, 1 - abs(column - across))
            result[n, :, i, j] += tent * images[n, :, row, column]
    return result


def looked_up(table, positions):
    """A table `[R₁, …, R_C, K]` at positions `[P, C]` in vertices, multilinear: one axis after the other."""
    result = np.zeros((len(positions), table.shape[-1]))
    for p, position in enumerate(positions):
        cell = table
        for place in position:
            before = min(int(np.floor(place)), len(cell) - 2)
            cell = cell[before] * (1 - (place - before)) + cell[before + 1] * (place - before)
        result[p] = cell
    return result


def farthest_look(images, changed, bound):
    """`bound` where a flow so large explains every pixel of changed images as far as one pixel alone can tell, else ∞.

    A bilinear sample lies between the least and the greatest of the pixels around it, the black ones outside included.
    """
    height, width = images.shape[2:]
    down, across = (int(np.ceil(bound * side / 2 - 1e-9)) for side in (height, width))
    framed = np.pad(images, ((0, 0), (0, 0), (down, down), (across, across)))
    around = np.stack(
        [framed[:, :, i : i + height, j : j + width] for i in range(2 * down + 1) for j in range(2 * across + 1)]
    )
    explained = (changed >= around.min(0) - 1e-6) & (changed <= around.max(0) + 1e-6)
    return np.where(explained.all((1, 2, 3)), bound, np.inf)


def largest_recolouring(images, changed, space):
    """How far colours moved, `[N]`, in the units of ReColorAdv, where no channel was clamped to 0 or 1.

    In LUV, the last bit of a float32 of nearly black counts for much: those pixels are left out too, and of all others
    the 2e-6 is forgiven that float32 leaves open.
    """
    unit = np.ones(images.shape[1])
    if space == "luv":
        unit, before, after = np.array([100.0, 200.0, 200.0]), luv_of(images), luv_of(changed)
        seen = (changed > 0.05) & (changed < 1)
    else:
        before, after, seen = images, changed, (changed > 0) & (changed < 1)
    moved = np.abs(after - before) / unit[:, None, None]
    if space == "luv":
        moved = np.maximum(moved - 2e-6, 0)
    return (moved * seen.all(1, keepdims=True)).reshape(len(images), np.prod(images.shape[1:])).max(1, initial=0)
