"""How alike two models answered the same images. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from ripeloop.prediction import Prediction


@dataclass(frozen=True, slots=True)
class Compared:
    """A candidate beside the model that answers: sums over the images both were asked about.

    `images` were answered by both and `agreed` with the same likeliest tag; `apart` adds up each image's mean |Δp|.
    `errors` failed in the candidate alone. `skipped` ones were not asked, as there was no idle worker. `seconds` and
    `live_seconds` are what the candidate and the model that answers took for the images both had the same cores for.
    """

    images: int = 0
    agreed: int = 0
    apart: float = 0.0
    errors: int = 0
    skipped: int = 0
    seconds: float = 0.0
    live_seconds: float = 0.0

    def answered(self, live: Sequence[Prediction], candidate: Sequence[Prediction]) -> Self:
        """One more image that both answered."""
        agrees = likeliest(live) == likeliest(candidate)
        return replace(
            self, images=self.images + 1, agreed=self.agreed + agrees, apart=self.apart + difference(live, candidate)
        )

    def took(self, live: float, candidate: float) -> Self:
        """What the two took for one image, in seconds, on as many cores."""
        return replace(self, seconds=self.seconds + candidate, live_seconds=self.live_seconds + live)

    @property
    def agreement(self) -> float | None:
        """The share of images with the same likeliest tag; None before the first."""
        return self.agreed / self.images if self.images else None

    def to_reported(self) -> dict[str, Any]:
        """In the twin's words; what is not known yet is None."""
        agreement = self.agreement
        return {
            "images": self.images,
            "skipped": self.skipped,
            "errors": self.errors,
            "agreement": None if agreement is None else round(agreement, 4),
            "difference": round(self.apart / self.images, 4) if self.images else None,
            "latency_ratio": round(self.seconds / self.live_seconds, 2) if self.live_seconds else None,
        }

    def to_json(self) -> dict[str, Any]:
        """The sums as they outlive a restart."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        """What `to_json` wrote; absent fields are zero. Raises ValueError, TypeError."""
        return cls(**{name: type(zero)(fields.get(name, zero)) for name, zero in asdict(cls()).items()})


def likeliest(predictions: Sequence[Prediction]) -> str:
    """The tag with the highest probability; the first of equals."""
    return max(predictions, key=lambda p: p.probability).tag


def difference(one: Sequence[Prediction], other: Sequence[Prediction]) -> float:
    """The mean |Δp| over the tags; a tag that only one of them knows has probability 0 in the other."""
    left, right = ({p.tag: p.probability for p in predictions} for predictions in (one, other))
    tags = left.keys() | right.keys()
    return sum(abs(left.get(tag, 0.0) - right.get(tag, 0.0)) for tag in tags) / len(tags)


def too_different(compared: Compared, wanted: float | None) -> str:
    """Why the candidate must not take over; empty where it agrees as much as is wanted, or nothing is wanted."""
    if wanted is None:
        return ""
    if compared.agreement is None:
        return f"no image was compared, {compared.skipped} were skipped as all workers were busy: give it more seconds"
    if compared.agreement >= wanted:
        return ""
    share = f"{compared.agreed} of {compared.images} images"
    return f"it agrees with the model that answers on {share}, {wanted:.1%} is wanted"
