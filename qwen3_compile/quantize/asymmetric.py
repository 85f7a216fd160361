"""Round-to-nearest with a zero point for each group, by a search for the least squared error (uint4).

A value is (code - zero point) * scale, with code and zero point of 0..15 and a scale above zero: the value zero is
always a code, and a group that leans to one side of it wastes no codes on the other. The plain choice spreads the codes
from the lowest to the highest value. The search also tries the zero point on the other side of where that falls, and
narrower and wider spreads; each choice of codes gets its best scale. On Gaussian values in groups of 32 that leaves 9 %
less squared error than the plain choice, and 9 % less than the best symmetric codes; in groups of 128, 10 % and 3 %.

Every step is elementwise, or a sum in a fixed order: the codes do not depend on the width of the processor's vectors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qwen3_compile.quantize.scales import SMALLEST, Codes, check_finite, fit_scales, round_codes, round_scales

if TYPE_CHECKING:
    from qwen3_compile.quantize.scales import Float32, ScaleType
    from qwen3_graphs.formats import WeightFormat

# The share of a group's range over which its codes are spread, the plain choice first. With both zero points the error
# is within 3 % (groups of 32; 1 % in groups of 128) of all 16 zero points with 90 spreads, on Gaussian values, shifted
# ones, Student-t(4) and exponential ones.
_SPREADS = (1.0, 1.04, 0.96, 0.92, 0.88, 0.84, 0.79)


def search_in_place(values: Float32, fmt: WeightFormat, scale_type: ScaleType, *, positive: bool) -> Codes:
    """Find codes uint8, scales and zero points of groups laid out as columns, [size, G], which it overwrites.

    Every zero point and spread give steps q = code - zero point, and those their best scale <x, q> / <q, q>; the choice
    of least squared error stays.
    """
    del positive  # all scales are
    highest = np.float32(fmt.code_range[1])
    bottom, top = np.minimum(values.min(axis=0), 0), np.maximum(values.max(axis=0), 0)
    largest = np.maximum(top, -bottom)
    check_finite(largest)
    empty = largest < SMALLEST
    largest[empty] = 1.0
    # Brought near one by a power of two: exact, and no square overflows or vanishes.
    _, exponent = np.frexp(largest)
    near_one = np.ldexp(np.float32(1), -exponent)
    values *= near_one
    bottom, top = bottom * near_one, top * near_one
    span = top - bottom
    span[empty] = 1.0
    below = np.floor(-bottom * highest / span)
    steps, product = np.empty_like(values), np.empty_like(values)
    least = np.full(largest.shape, np.inf, np.float32)
    scale, zero_points = np.ones(largest.shape, np.float32), np.zeros(largest.shape, np.float32)
    for zero_point in (below, np.minimum(below + 1, highest)):
        for spread in _SPREADS:
            np.multiply(values, highest / (np.float32(spread) * span), out=steps)
            round_codes(steps, -zero_point, highest - zero_point)
            fit, error = fit_scales(values, steps, product)
            better = error < least
            np.copyto(least, error, where=better)
            np.copyto(scale, fit, where=better)
            np.copyto(zero_points, zero_point, where=better)
    for chosen, of_zeros in ((scale, 1), (exponent, 0), (zero_points, 0)):
        chosen[empty] = of_zeros
    stored = round_scales(np.ldexp(scale, exponent), fmt.kind, scale_type)
    round_codes(np.divide(values, np.ldexp(stored, -exponent), out=steps), -zero_points, highest - zero_points)
    steps += zero_points
    return Codes(steps.astype(np.uint8), stored, zero_points.astype(np.uint8))
