"""Blobs of the local store that cannot be deleted hold up no other: told once for all of them, tried again later."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ripeloop.blobs import Blobs
from ripeloop.errors import Offline, Refused
from sampler.sample import Sample
from sampler.telling.trouble import LOCAL_DELETE, Troubles

NO_BLOB = "-"  # no blob of a sampler begins so and ends there: a listing of few answers
MOST = 100  # of them; where there are more and nothing goes, it is the store that is at fault


class Stuck:
    """Deletes the local blobs of samples and knows those that would not go."""

    def __init__(self, local: Blobs, troubles: Troubles) -> None:
        self._local = local
        self._troubles = troubles
        self._why: dict[str, str] = {}

    @property
    def ids(self) -> Collection[str]:
        """The samples whose blobs could not be deleted when it was last tried."""
        return self._why.keys()

    async def delete(self, samples: Sequence[Sample]) -> list[Sample]:
        """Delete the blobs of all these; those that are gone.

        Raises Offline, Refused where the store is at fault: it does not even list, or it deletes none of many.
        """
        gone: list[Sample] = []
        failed: dict[str, Offline | Refused] = {}
        for sample in samples:
            try:
                await self._local.delete(sample.blob)
            except (Offline, Refused) as error:
                if not failed:
                    await ask(self._local)
                failed[sample.id] = error
            else:
                gone.append(sample)
        self._note(gone, failed)
        if failed and not gone and len(self._why) > MOST:
            raise next(iter(failed.values()))
        return gone

    def _note(self, gone: Sequence[Sample], failed: dict[str, Offline | Refused]) -> None:
        for sample in gone:
            self._why.pop(sample.id, None)
        self._why |= {id_: str(error) for id_, error in failed.items()}
        id_, why = next(iter(self._why.items()), ("", ""))
        self._troubles.say(
            LOCAL_DELETE,
            id_
            and f"{len(self._why)} images in the local store cannot be deleted, as {id_} ({why}): is the disk sound, "
            "and may this user write there? They are tried again",
        )


async def ask(local: Blobs) -> None:
    """Raises Offline, Refused where the store does not even list."""
    async for _ in local.list(NO_BLOB):
        break
