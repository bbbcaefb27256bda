"""Counter-based random draws: each is a function of (seed, stream, epoch, example, copy), never of what ran before."""

from typing import Literal

import numpy as np
import numpy.typing as npt

Stream = Literal["order", "augmentation", "initialisation", "selection", "corruption", "dropout"]
_STREAMS: dict[Stream, int] = {
    "order": 1,
    "augmentation": 2,
    "initialisation": 3,
    "selection": 4,
    "corruption": 5,
    "dropout": 6,
}
U64 = npt.NDArray[np.uint64]
GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mix(x: U64) -> U64:
    """splitmix64's finaliser (Steele, Lea and Flood, 2014): a bijection of 64-bit words."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def draw_words(seed: int, stream: Stream, *counters: int | npt.ArrayLike) -> U64:
    """64 random bits for each element of the broadcast counters (epoch, example ids, copies, draw number, …)."""
    with np.errstate(over="ignore"):
        words = np.asarray(stream_word(seed, stream))
        for counter in counters:
            words = mix((words ^ np.asarray(counter).astype(np.uint64)) + GOLDEN)
    return np.asarray(words, dtype=np.uint64)


def stream_word(seed: int, stream: Stream) -> np.uint64:
    """What every draw of a stream starts from."""
    with np.errstate(over="ignore"):
        return np.uint64(mix(np.asarray(seed, np.uint64) + GOLDEN * np.uint64(_STREAMS[stream])))


def draw_uniform(seed: int, stream: Stream, *counters: int | npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Uniform in [0, 1) with 53 bits, for each element of the broadcast counters."""
    words = draw_words(seed, stream, *counters) >> np.uint64(11)
    return words.astype(np.float64) * 2.0**-53


def draw_integers(seed: int, stream: Stream, below: int, *counters: int | npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Uniform integers in [0, below), for each element of the broadcast counters."""
    return (draw_uniform(seed, stream, *counters) * below).astype(np.int64)


def stream_seed(seed: int, stream: Stream, *counters: int) -> int:
    """A 63-bit seed for a library's own generator."""
    return int(draw_words(seed, stream, *counters)) >> 1
