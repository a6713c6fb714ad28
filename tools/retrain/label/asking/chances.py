"""Which images are asked twice, and whose suggestion is hidden from whom? Pure: told from the id, never drawn.

So every server decides alike, a page that is loaded again shows the same, and nobody can choose.
"""

from __future__ import annotations

import hashlib


def wants_two(id_: str, share: float) -> bool:
    """Whether a second person is asked of this image, as of the `share` (0 to 1) of all."""
    return chance("overlap", id_) < share


def is_blind(id_: str, person: str, share: float) -> bool:
    """Whether the model's suggestion is hidden from this person, as it is for the `share` (0 to 1) of all images."""
    return chance("blind", id_, person) < share


def chance(*words: str) -> float:
    """A number of [0, 1) that looks drawn, and is always the same for the same words."""
    digest = hashlib.blake2b("\0".join(words).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / (1 << 53)
