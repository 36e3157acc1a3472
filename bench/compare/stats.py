"""Whether two series of latencies differ, and by how much.

Samples of one process are not independent: a slow moment holds for several steps. Resampling them one by
one would give intervals that are too narrow, so blocks of neighbouring samples are drawn whole. What differs
between two starts of the same process (address layout, clocks, the neighbours on the machine) is in no
sample of one run, hence in no interval here: a threshold has to be larger than that. Compare a report with
a second one of the same build to see how large it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from msgspec import Struct

CONFIDENCE = 0.95
RESAMPLES = 800
LARGEST_BATCH = 1 << 22  # resampled numbers in memory at a time


class Ratio(Struct, frozen=True, kw_only=True):
    """A quantile of the step's latency, after over before, with a 95 % interval of it; null where none is known."""

    before_ms: float
    after_ms: float
    ratio: float
    low: float | None
    high: float | None


def quantile_ratio(before_ms: Sequence[float], after_ms: Sequence[float], quantile: float) -> Ratio:
    """The ratio of a quantile of two series, with a 95 % interval by bootstrap over blocks.

    Both series are resampled on their own and every pair of resampled quantiles gives a ratio, so that
    swapping the two inverts the interval exactly, and a series against itself has an interval around 1.

    Args:
        before_ms, after_ms: samples above 0, in the order taken.
        quantile: 0.5 for the median.
    """
    old, new = (float(np.quantile(series, quantile)) for series in (before_ms, after_ms))
    logs = [np.log(bootstrap_quantiles(series, quantile)) for series in (before_ms, after_ms)]
    differences = logs[1][:, None] - logs[0][None, :]
    outside = (1 - CONFIDENCE) / 2
    low, high = np.exp(np.quantile(differences, (outside, 1 - outside)))
    return Ratio(before_ms=old, after_ms=new, ratio=new / old, low=float(low), high=float(high))


def centred(ratio: Ratio, before_ms: float, after_ms: float) -> Ratio:
    """The ratio of quantiles of all samples, where `ratio` and its interval are of some of them.

    The interval moves with the ratio and stays as wide: wider than one of all samples would be.
    """
    moved = after_ms / before_ms
    low, high = (edge and edge * moved / ratio.ratio for edge in (ratio.low, ratio.high))
    return Ratio(before_ms=before_ms, after_ms=after_ms, ratio=moved, low=low, high=high)


def bootstrap_quantiles(series: Sequence[float], quantile: float) -> np.ndarray:
    """The quantile of `RESAMPLES` resampled series, of blocks of neighbours.

    Blocks do not overlap (Carlstein, 1986); the samples behind the last whole block are left out. The seed
    comes from the samples, so that a comparison can be repeated.

    Returns:
        float64 [RESAMPLES], ms.
    """
    values = np.asarray(series, dtype=np.float64)
    length = block_length(values)
    blocks = values[: len(values) // length * length].reshape(-1, length)
    if len(blocks) < 2:
        return np.full(RESAMPLES, np.quantile(values, quantile))
    generator = np.random.default_rng(int.from_bytes(hashlib.sha256(values.tobytes()).digest()[:8], "little"))
    batch = max(1, LARGEST_BATCH // len(values))
    found = []
    for done in range(0, RESAMPLES, batch):
        count = min(batch, RESAMPLES - done)
        drawn = blocks[generator.integers(0, len(blocks), (count, len(blocks)))]
        found.append(np.quantile(drawn.reshape(count, -1), quantile, axis=-1))
    return np.concatenate(found)


def block_length(series: Sequence[float] | np.ndarray) -> int:
    """How many neighbouring samples hang together: where the correlation of ranks has died down.

    At least the cube root of the number of samples, the usual choice where nothing is known; at most a
    twentieth of them, so that there are blocks to draw from. Ranks, since one outlier would hide the rest.
    """
    from scipy.stats import rankdata

    ranks = rankdata(series) - (len(series) + 1) / 2
    least, most = round(len(ranks) ** (1 / 3)), max(len(ranks) // 20, 1)
    correlation = _autocorrelation(ranks)
    if correlation[0] == 0:
        return min(least, most)
    noise = 2 / np.sqrt(len(ranks))
    quiet = np.flatnonzero(correlation[1:most] / correlation[0] < noise)
    lag = int(quiet[0]) + 1 if quiet.size else most
    return min(max(least, lag), most)


def _autocorrelation(values: np.ndarray) -> np.ndarray:
    """Sums of products with itself at every lag, by Fourier transform: a long drift would take the square of it."""
    spectrum = np.fft.rfft(values, 2 * len(values))
    return np.fft.irfft(spectrum * spectrum.conj())[: len(values)]


def rank_test(before_ms: Sequence[float], after_ms: Sequence[float]) -> float:
    """Two-sided p-value of `scipy.stats.mannwhitneyu`, on every n-th sample so that they hang together less.

    1 where all samples of both are one and the same number, for which some versions of scipy give NaN.
    """
    from scipy.stats import mannwhitneyu

    old, new = (series[:: block_length(series)] for series in (before_ms, after_ms))
    if len({*old, *new}) == 1:
        return 1.0
    return float(mannwhitneyu(old, new, alternative="two-sided").pvalue)
