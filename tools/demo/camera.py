"""A camera: posts picture files to the classifier and notes each answer."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import aiohttp

from demo.pictures import Picture
from retrain.judging.chances import Share
from ripeloop.errors import Offline
from ripeloop.prediction import image_id

AT_ONCE = 4
PATIENCE = aiohttp.ClientTimeout(total=30)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the classifier said of one picture: its likeliest tag, or why it refused; `seconds` it took.

    `model` is the version that answered.
    """

    picture: Picture
    id: str
    size: int
    seconds: float
    tag: str = ""
    probability: float = 0.0
    refusal: str = ""
    model: str = ""

    @property
    def right(self) -> bool | None:
        """Whether the tag is the folder's; None where the picture has none."""
        return None if self.picture.tag is None or self.refusal else self.tag == self.picture.tag


@dataclass(slots=True)
class Shift:
    """What one camera has seen so far."""

    total: int
    answers: list[Answer] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    latest: deque[Answer] = field(default_factory=lambda: deque(maxlen=8))
    started: float = field(default_factory=time.monotonic)
    seconds: float = 0.0

    @property
    def answered(self) -> list[Answer]:
        """The answers that hold a prediction."""
        return [answer for answer in self.answers if not answer.refusal]

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.answers) / self.seconds if self.seconds else 0.0

    @property
    def right(self) -> Share:
        """How many were answered right, of those whose tag is known."""
        known = [answer.right for answer in self.answers if answer.right is not None]
        return Share(sum(known), len(known))

    @property
    def model(self) -> str:
        """The version that gave most of the answers."""
        return Counter(answer.model for answer in self.answered).most_common(1)[0][0] if self.answered else ""

    def note(self, answer: Answer) -> None:
        """Take one more answer down."""
        self.answers.append(answer)
        self.latest.append(answer)
        self.seconds = time.monotonic() - self.started

    def quantile(self, share: float) -> float:
        """The seconds within which `share` of all answers came."""
        took = sorted(answer.seconds for answer in self.answers)
        return took[min(len(took) - 1, int(share * len(took)))] if took else 0.0


def whole(shifts: Sequence[Shift]) -> Shift:
    """All shifts as one."""
    day = Shift(sum(shift.total for shift in shifts), seconds=sum(shift.seconds for shift in shifts))
    for shift in shifts:
        day.answers.extend(shift.answers)
        day.unreadable.extend(shift.unreadable)
        day.latest.extend(shift.latest)
    return day


async def post_all(url: str, pictures: Iterable[Picture], shift: Shift, rate: float = 0.0) -> None:
    """Post every picture, a few at a time, at most `rate` a second (0: as fast as they are answered)."""
    async with aiohttp.ClientSession(timeout=PATIENCE) as session:
        queue = iter(enumerate(pictures))
        shift.started = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(AT_ONCE):
                tasks.create_task(_post_some(session, f"{url}/image", queue, shift, rate))


async def _post_some(
    session: aiohttp.ClientSession, url: str, queue: Iterator[tuple[int, Picture]], shift: Shift, rate: float
) -> None:
    for number, picture in queue:
        if rate:
            await asyncio.sleep(max(0.0, shift.started + number / rate - time.monotonic()))
        try:
            image = await asyncio.to_thread(picture.path.read_bytes)
        except OSError as error:
            shift.unreadable.append(f"{picture.name}: {error.strerror or error}; check its permissions")
            continue
        try:
            shift.note(await _post(session, url, picture, image))
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Offline(f"the classifier does not answer the camera: {error or 'no answer in time'}") from error


async def _post(session: aiohttp.ClientSession, url: str, picture: Picture, image: bytes) -> Answer:
    id_, began = image_id(image), time.monotonic()
    async with session.post(url, data=image, headers={"Content-Type": "application/octet-stream"}) as response:
        body = await response.json(content_type=None)
        took = time.monotonic() - began
        if not response.ok:
            refusal = f"{response.status} {body.get('message', '')}"
            return Answer(picture, id_, len(image), took, refusal=refusal)
        best = max(body["predictions"], key=lambda prediction: float(prediction["probability"]))
        return Answer(picture, id_, len(image), took, best["tagName"], best["probability"], model=body["iteration"])
