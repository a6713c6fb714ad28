"""One training or export, as its own process: `python -m trainer.runs.job FOLDER`, begun by the service.

Reads FOLDER/request.json, tells its progress as lines of JSON on its standard output, and leaves the models there.
Its memory goes with it, and whoever ends it ends the training. It ends by itself when its standard input does: the
service is gone then.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

from ripeloop.disk import sync, write_whole
from ripeloop.errors import RipeloopError
from trainer.learning import figures
from trainer.learning.advanced import USUAL, Choice
from trainer.learning.features import BadTrainingImage
from trainer.runs.request import TrainingImage, TrainingRequest, TrainingResult, TrainingTag, train_request
from trainer.runs.settled import Settled
from trainer.state.files import EVALUATION, MODEL, MODEL_INT8, REQUEST

REFUSED = 3


def main(folder: Path) -> int:
    """Train what FOLDER asks for; the exit code."""
    request = read(json.loads((folder / REQUEST).read_bytes()))
    try:
        result = train_request(request, lambda what, done, of: tell(what=what, done=done, of=of))
    except BadTrainingImage as error:
        tell(error=f"image {request.images[error.position].path.name} cannot be learnt from: {error.reason}; delete it")
        return REFUSED
    except RipeloopError as error:
        tell(error=str(error))
        return REFUSED
    if request.int8:
        write_whole(folder / MODEL_INT8, result.export)
    else:
        write(folder, result)
    return 0


def read(fields: dict[str, Any]) -> TrainingRequest:
    """The request in a file of the service."""
    return TrainingRequest(
        images=tuple(TrainingImage(id_, Path(path), tuple(tags)) for id_, path, tags in fields["images"]),
        tags=tuple(TrainingTag(id_, name, negative) for id_, name, negative in fields["tags"]),
        multilabel=fields["multilabel"],
        cache=Path(fields["cache"]),
        iteration_id=fields["iteration_id"],
        seconds=fields["seconds"],
        choice=choice_in(fields),
        int8=fields["int8"],
    )


def choice_in(fields: dict[str, Any]) -> Choice:
    """The choice in a request or a result; the usual one where there is none."""
    if "choice" not in fields:
        return USUAL
    views, stages = fields["choice"]
    return Choice(tuple(views), tuple(stages))


def write(folder: Path, result: TrainingResult) -> None:
    """Leave what came of a training, the result's own file last: where it stands, all does."""
    figures.save(folder / EVALUATION, result.probabilities, result.folds)
    sync(folder / EVALUATION)
    write_whole(folder / MODEL, result.export)
    Settled(result.tags, (result.choice.views, result.choice.stages)).write(folder)


def tell(**news: object) -> None:
    """Say one thing to the service."""
    sys.stdout.write(json.dumps(news) + "\n")
    sys.stdout.flush()


def _end_with_the_service() -> None:
    os.read(0, 1)  # not sys.stdin: Python could not end while a thread waits in it
    os._exit(REFUSED)


if __name__ == "__main__":
    threading.Thread(target=_end_with_the_service, daemon=True).start()
    sys.exit(main(Path(sys.argv[1])))
