"""What every page of the labelling server works with."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from jinja2 import Environment

from retrain.label.answering.answers import Answers
from retrain.label.answering.journal import Journal
from retrain.label.asking.alike import LookAlikes
from retrain.label.asking.queue import Queue
from retrain.label.asking.tags import Tags
from retrain.label.container.cache import Cache
from retrain.label.container.scan import Scan
from retrain.label.pages.images import Images
from retrain.label.pages.retraining import Retraining
from retrain.label.people import People
from retrain.label.quality.asker import Asker
from retrain.label.settings import Settings
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
