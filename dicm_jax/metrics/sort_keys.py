"""User, score and click of an impression in one 64-bit integer, so that one sort orders all three.

    bit  63 ...... 33   32 ...... 1      0
         user (31 bits) rank (32 bits)   click

Sorting such keys is several times faster than `np.lexsort`, needs no permutation to be stored or
followed, and gives the same array whatever the order of the rows was. Nothing is rounded: a rank
code orders, and ties, exactly as its score does.

Shape legend
    B   impressions
    R   runs of equal user and score in the sorted impressions
    U   distinct users
"""

import numpy as np
from jaxtyping import Bool, Int64, Integer, Real, UInt32, UInt64

_USER_BITS = 31
_RANK_BITS = 32


def rank_codes(score_B: Real[np.ndarray, "B"]) -> UInt32[np.ndarray, "B"]:
    """Returns codes in uint32 [B] with code_i < code_j if and only if score_i < score_j.

    The bits of a float32 order as integers do once those of negative numbers are inverted. Wider
    types do not fit 32 bits; their codes are places in the sorted list of distinct scores.

    Args:
        score_B: finite reals, at most 2**31 of them.
    """
    if score_B.dtype != np.float32:
        _, code_B = np.unique(score_B, return_inverse=True)
        return code_B.astype(np.uint32)
    sign = np.uint32(1 << 31)
    bits_B = np.array(score_B).view(np.uint32)
    bits_B[bits_B == sign] = 0  # -0.0 and 0.0 are a tie
    all_ones_if_negative_B = (bits_B.view(np.int32) >> 31).view(np.uint32)
    bits_B ^= all_ones_if_negative_B | sign
    return bits_B


def user_codes(
    user_B: Integer[np.ndarray, "B"],
) -> tuple[Integer[np.ndarray, "B"], Integer[np.ndarray, "U"] | None]:
    """Returns codes below 2**31 [B] in the order of the IDs, and the ID of each code [U].

    IDs that fit are their own codes; None then stands in place of the second array.
    """
    if user_B.min() >= 0 and user_B.max() < 1 << _USER_BITS:
        return user_B, None
    id_U, code_B = np.unique(user_B, return_inverse=True)
    return code_B, id_U


def sorted_keys(
    user_code_B: Integer[np.ndarray, "B"],
    rank_code_B: UInt32[np.ndarray, "B"],
    click_B: Bool[np.ndarray, "B"],
) -> UInt64[np.ndarray, "B"]:
    """Returns the impressions' keys, uint64 [B], by user, then score, unclicked before clicked."""
    key_B = user_code_B.astype(np.uint64)
    key_B <<= np.uint64(_RANK_BITS)
    key_B |= rank_code_B
    key_B <<= np.uint64(1)
    key_B |= click_B
    key_B.sort()
    return key_B


def first_of_ties(key_B: UInt64[np.ndarray, "B"]) -> Int64[np.ndarray, "R"]:
    """Returns the place of the first key of each run of equal user and score."""
    is_first_B = np.ones(len(key_B), np.bool_)
    np.greater(key_B[1:] ^ key_B[:-1], 1, out=is_first_B[1:])
    return np.flatnonzero(is_first_B)


def clicks_of(key_B: UInt64[np.ndarray, "B"]) -> Int64[np.ndarray, "B"]:
    """Returns the clicks in the keys, int64 [B]."""
    return (key_B & np.uint64(1)).view(np.int64)


def user_codes_of(key_B: UInt64[np.ndarray, "B"]) -> Int64[np.ndarray, "B"]:
    """Returns the user codes in the keys, int64 [B]."""
    return (key_B >> np.uint64(_RANK_BITS + 1)).view(np.int64)
