"""What every page of the labelling server works with."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from jinja2 import Environment

from retrain.label.alike import LookAlikes
from retrain.label.answers import Answers
from retrain.label.asker import Asker
from retrain.label.cache import Cache
from retrain.label.images import Images
from retrain.label.journal import Journal
from retrain.label.people import People
from retrain.label.queue import Queue
from retrain.label.retraining import Retraining
from retrain.label.scan import Scan
from retrain.label.settings import Settings
from retrain.label.tags import Tags
from ripeloop.blobs import Blobs


@dataclass(frozen=True, slots=True)
class Parts:
    """One server's parts. `asker`: a newer model that is asked about every labelled image, where one was given."""

    settings: Settings
    blobs: Blobs
    cache: Cache
    journal: Journal
    queue: Queue
    answers: Answers
    people: People
    images: Images
    scan: Scan
    tags: Tags
    alike: LookAlikes
    retraining: Retraining
    templates: Environment
    asker: Asker | None = None

    def now(self) -> datetime:
        """UTC."""
        return datetime.now(UTC)
