"""The hash behind random numbers: SplitMix64's finaliser (Steele et al., OOPSLA 2014) in signed 64-bit integers.

It takes int64 tensors and int64 arrays alike, whose products wrap around as it requires.
"""

from __future__ import annotations

from typing import Any, TypeVar

Words = TypeVar("Words", bound=Any)

GOLDEN = -0x61C8864680B583EB  # 2⁶⁴/φ as a signed 64-bit integer
_FIRST = -0x40A7B892E31B1A47  # 0xBF58476D1CE4E5B9
_SECOND = -0x6B2FB644ECCEEE15  # 0x94D049BB133111EB


def shift_right(words: Words, bits: int) -> Words:
    """The logical right shift, which signed integers do not have."""
    return (words >> bits) & ((1 << (64 - bits)) - 1)


def finalise(words: Words) -> Words:
    """The hash of every word."""
    words = (words ^ shift_right(words, 30)) * _FIRST
    words = (words ^ shift_right(words, 27)) * _SECOND
    return words ^ shift_right(words, 31)


def mix_into(words: Words, *parts: Words | int) -> Words:
    """One hash of words and further integers, broadcast against each other."""
    for part in parts:
        words = finalise(words * 3 + part + GOLDEN)
    return words
