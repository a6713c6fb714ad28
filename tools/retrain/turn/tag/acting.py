"""The steps of a tagging, done: each can be done again, and a kill between two calls leaves nothing to be lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial

from retrain.customvision import CustomVision, NewImage, Taken
from retrain.data.dataset import Tag
from retrain.data.transfer import in_turn
from retrain.turn.tag import sending
from retrain.turn.tag.deciding import MAX_IMAGE_BYTES, NEVER, Project, Step
from retrain.turn.tag.facts import Fact
from retrain.turn.tag.marking import at_once, mark, patiently
from retrain.turn.tag.sending import BATCH, DUPLICATE, NOT_REMOVED, OK
from retrain.turn.tag.tagged import NEGATIVE, Problem
from retrain.turn.tag.there import Held, There
from retrain.turn.tag.use import TRAINING, Use
from ripeloop.blobs import Blobs
from ripeloop.errors import Denied, NotFound, Refused
from ripeloop.prediction import image_id

MARKS_AT_ONCE = 8

Told = Callable[[int], None]


class Acting:
    """One turn's acts on blobs and project. `there` is kept in step; `now` tells the time in UTC as text.

    What comes of a sample is in `fresh`, as it stands afterwards, or in `problems`; of one that is gone nothing comes.
    """

    def __init__(
        self, blobs: Blobs, service: CustomVision, project: Project, there: There, now: Callable[[], str]
    ) -> None:
        self._blobs, self._service, self._there, self._now = blobs, service, there, now
        self._tag_ids = dict(project.tag_ids)
        self.project = replace(project, tag_ids=self._tag_ids)
        self.tags_made = 0
        self.problems: dict[str, Problem] = {}
        self.fresh: list[Fact] = []

    def tell(self, step: Step, status: str, why: str, *, again: bool = False) -> None:
        """That a sample is not in the project as its label says."""
        self.problems[step.fact.id] = Problem(step.fact.id, step.fact.names[0], status, why, again)

    async def with_tags(self, steps: Sequence[Step]) -> list[Step]:
        """Make the tags that are missing; the steps without those whose tags the service refuses."""
        refused: dict[str, str] = {}
        for name in sorted({tag for step in steps for tag in _tags(step)} - set(self._tag_ids)):
            kind = NEGATIVE if name == self.project.negative else "Regular"
            try:
                made = await asyncio.to_thread(self._service.create_tag, self.project.id, Tag(name, kind=kind))
            except Denied:
                raise
            except Refused as error:
                about = await asyncio.to_thread(self._service.about, self.project.id)
                there = {one.name: one.id for one in about.tags}
                if name not in there:  # else it was made, and only the answer was lost
                    refused[name] = str(error)
                    continue
                made = there[name]
            self._tag_ids[name] = made
            self.tags_made += 1
        for step in steps:
            for tag in set(_tags(step)) & set(refused):
                self.tell(step, "TagRefused", f"the service does not take the tag {tag!r} ({refused[tag]}): rename it")
        return [step for step in steps if not set(_tags(step)) & set(refused)]

    async def mark(self, steps: Sequence[Step], told: Told) -> int:
        """Say on the blobs what their samples are for; how many were marked."""
        return await self._in_chunks(steps, MARKS_AT_ONCE * 4, told, self._marked)

    async def clear(self) -> None:
        """Delete what was left of asking; what cannot be deleted has no tags, and nothing learns from it."""
        for start in range(0, len(self._there.left), BATCH):
            some = self._there.left[start : start + BATCH]
            await asyncio.to_thread(sending.delete, self._service, self.project.id, some)

    async def hold(self, steps: Sequence[Step], told: Told) -> int:
        """Say on the blobs that their samples are held out; how many are.

        One that the project has already, put there by somebody without a word of which image it is, is for training.
        """
        held = done = 0
        for batch in sending.batches(steps):
            there = await self._asked([step for step in batch if self._may_be_there(step)])
            learned = [(step, one) for step, one in there if one.status == DUPLICATE]
            unknown = {step.fact.id for step, one in there if one.status not in (OK, DUPLICATE)}
            await self._marked([replace(step, use=Use(TRAINING, self.project.id, one.id)) for step, one in learned])
            await self._described(learned)
            unfit = unknown | {step.fact.id for step, _ in learned}
            held += await self._marked([step for step in batch if step.fact.id not in unfit])
            done += len(batch)
            told(done)
        return held

    async def find(self, steps: Sequence[Step], told: Told) -> int:
        """Remove what a killed sending left in the project of samples that are not to be there; how many were there."""
        removed = done = 0
        for batch in sending.batches(steps):
            there = await self._asked(batch)
            ours = [replace(step, held=Held(one.id, frozenset())) for step, one in there if one.status == DUPLICATE]
            removed += await self._removed(ours)
            await self._marked([step for step, one in there if one.status == OK])
            done += len(batch)
            told(done)
        return removed

    async def remove(self, steps: Sequence[Step], told: Told) -> int:
        """Delete the samples' images from the project, then say so; how many were deleted."""
        return await self._in_chunks(steps, BATCH, told, self._removed)

    async def retag(self, steps: Sequence[Step], told: Told) -> int:
        """Give the samples' images the tags they should have, then say so; how many have them now."""
        return await self._in_chunks(steps, BATCH, told, self._retagged)

    async def send(self, steps: Sequence[Step], told: Told) -> int:
        """Upload the samples that the project lacks; how many it has now. Ends early where it takes nothing more."""
        done = sent = 0
        for batch in sending.batches(steps):
            came, takes_more = await self._sent(batch)
            sent, done = sent + came, done + len(batch)
            told(done)
            if not takes_more and done < len(steps):
                for step in steps[done:]:
                    self.tell(step, "NotSent", "the service took nothing of what was sent before it", again=True)
                break
        return sent

    async def _in_chunks(
        self, steps: Sequence[Step], size: int, told: Told, act: Callable[[Sequence[Step]], Awaitable[int]]
    ) -> int:
        count = 0
        for start in range(0, len(steps), size):
            count += await act(steps[start : start + size])
            told(min(start + size, len(steps)))
        return count

    async def _marked(self, steps: Sequence[Step]) -> int:
        marked = 0
        for start in range(0, len(steps), MARKS_AT_ONCE):
            some = steps[start : start + MARKS_AT_ONCE]
            for step, fresh in zip(some, await at_once([self._mark(step) for step in some]), strict=True):
                if isinstance(fresh, Fact):
                    self.fresh.append(fresh)
                    marked += 1
                elif fresh is not None:
                    self.tell(step, "NotMarked", str(fresh), again=True)
        return marked

    async def _mark(self, step: Step) -> Fact | Refused | None:
        """The sample as it is now; None where it is gone; the refusal of its blob."""
        assert step.use is not None  # noqa: S101 - nothing is decided to be marked without
        try:
            return await mark(self._blobs, step.fact, replace(step.use, at=self._now()))
        except Denied:
            raise
        except Refused as error:
            return error

    async def _removed(self, steps: Sequence[Step]) -> int:
        images = {step.held.image: step for step in steps if step.held is not None}
        failed = await asyncio.to_thread(sending.delete, self._service, self.project.id, list(images))
        for image in images:
            if image not in failed:
                self._there.drop(image)
        for image, why in failed.items():
            self.tell(images[image], "NotRemoved", why, again=True)
        await self._marked([step for image, step in images.items() if image not in failed])
        return len(images) - len(failed)

    async def _retagged(self, steps: Sequence[Step]) -> int:
        """Images whose tags are right already are marked alone."""
        images = {step.held.image: step for step in steps if step.held is not None}
        wanted = {image: self._wanted(step) for image, step in images.items()}
        work = {image: (step.held.tag_ids, wanted[image]) for image, step in images.items() if step.held is not None}
        failed = await asyncio.to_thread(sending.retag, self._service, self.project.id, work)
        for image, why in failed.items():
            self.tell(images[image], "NotTagged", why, again=True)
        for image, step in images.items():
            if image not in failed:
                self._there.put(step.fact.id, Held(image, wanted[image]))
        await self._marked([step for image, step in images.items() if image not in failed])
        return len(images) - len(failed)

    def _may_be_there(self, step: Step) -> bool:
        """Before the first mark, where some image of the project could be this one."""
        return self._there.strangers and step.fact.use is None and step.fact.size <= MAX_IMAGE_BYTES

    async def _asked(self, steps: Sequence[Step]) -> list[tuple[Step, Taken]]:
        """Whether the project has each of these, as `sending.ask` says; what cannot be known is told."""
        images = await at_once([self._image(step) for step in steps])
        known = [
            (step, NewImage(step.fact.id, image))
            for step, image in zip(steps, images, strict=True)
            if image is not None
        ]
        if not known:
            return []
        new = [one for _, one in known]
        answers = await asyncio.to_thread(sending.ask, self._service, self.project.id, new)
        found = [(step, answer) for (step, _), answer in zip(known, answers, strict=True)]
        for step, answer in found:
            if answer.status not in (OK, DUPLICATE):
                why = "it was sent to see whether the project has it, and is not deleted yet"
                why = why if answer.status == NOT_REMOVED else sending.why(answer.status)
                self.tell(step, answer.status, why, again=True)
        return found

    async def _sent(self, batch: Sequence[Step]) -> tuple[int, bool]:
        """How many came, and whether it is worth sending more."""
        ready = [step for step in await at_once([self._ready(step) for step in batch]) if step is not None]
        images = await at_once([self._image(step) for step in ready])
        new = [
            (step, NewImage(step.fact.id, image, sorted(self._wanted(step))))
            for step, image in zip(ready, images, strict=True)
            if image is not None
        ]
        if not new:
            return 0, True
        taken = await asyncio.to_thread(sending.upload, self._service, self.project.id, [one for _, one in new])
        results = [(step, one) for (step, _), one in zip(new, taken, strict=True)]
        came = [(step, one) for step, one in results if one.status in (OK, DUPLICATE)]
        await self._described(came)
        count = await self._retagged(await self._there_now(came))
        await self._refused([(step, one.status) for step, one in results if one.status not in (OK, DUPLICATE)])
        words = {one.status for one in taken}
        nothing = len(taken) > 1 and len(words) == 1 and not came and sending.is_worth_another_try(words.pop())
        return count, not nothing

    async def _ready(self, step: Step) -> Step | None:
        """The step once its blob says that the sample is for training, before anything is sent.

        Whatever happens from here on, a larger share tomorrow cannot make it part of the holdout.
        """
        assert step.use is not None  # noqa: S101 - nothing is decided to be sent without
        # with its tags, without an image: from now on it may be in the project, and only this says so
        fresh = await self._mark(replace(step, use=Use(TRAINING, self.project.id, tags=step.use.tags)))
        if isinstance(fresh, Refused):
            self.tell(step, "NotMarked", str(fresh), again=True)
            return None
        if fresh is None:
            return None
        same = (fresh.kind, fresh.tags) == (step.fact.kind, step.fact.tags)
        if not same or fresh.use is None or fresh.use.kind != TRAINING:
            self.fresh.append(fresh)
            return None
        return replace(step, fact=fresh)

    async def _image(self, step: Step) -> bytes | None:
        try:
            image = await patiently(partial(self._blobs.get, step.fact.names[0]))
        except NotFound:
            return None
        if image_id(image) == step.fact.id:
            return image
        self.tell(step, "OtherBytes", "the blob holds other bytes than its name says: delete it")
        return None

    async def _described(self, came: Sequence[tuple[Step, Taken]]) -> None:
        """Write each sample's id and facts into the metadata of its image; the service has one for a whole batch."""

        def describe(one: tuple[Step, Taken]) -> None:
            try:
                self._service.describe(self.project.id, one[1].id, sending.record_of(one[0].fact))
            except Denied:
                raise
            except (NotFound, Refused):
                return  # as of an image from elsewhere that is described at length: the mark on the blob tells the same

        def all_of_them() -> None:
            for _ in in_turn(came, describe):
                pass

        await asyncio.to_thread(all_of_them)

    async def _there_now(self, came: Sequence[tuple[Step, Taken]]) -> list[Step]:
        """The steps with their images as the project holds them: one that it had already may have other tags."""
        known = [one.id for _, one in came if one.status == DUPLICATE]
        kept = await asyncio.to_thread(self._service.images_by_ids, self.project.id, known) if known else []
        tags = {one.id: one.tag_ids for one in kept}
        steps: dict[str, Step] = {}
        for step, one in came:
            if one.id in steps:  # by their ids they are two
                self.tell(step, "SameImage", f"the service takes it for the same image as {steps[one.id].fact.id}")
                continue
            held = Held(one.id, tags.get(one.id, self._wanted(step)))
            steps[one.id] = replace(step, held=held, use=Use(TRAINING, self.project.id, one.id, _tags(step)))
        return list(steps.values())

    async def _refused(self, refused: Sequence[tuple[Step, str]]) -> None:
        """Tell them; what no later try makes better is remembered on the blob, and not sent again."""
        for step, status in refused:
            self.tell(step, status, sending.why(status), again=sending.is_worth_another_try(status))
            if status in NEVER and step.use is not None:
                await self._mark(replace(step, use=replace(step.use, refused=status)))

    def _wanted(self, step: Step) -> frozenset[str]:
        return frozenset(self._tag_ids[tag] for tag in _tags(step))


def _tags(step: Step) -> tuple[str, ...]:
    """The names of the tags that the sample is to have."""
    return step.use.tags if step.use else ()
