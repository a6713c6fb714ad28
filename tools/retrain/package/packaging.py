"""An export becomes a model package: golden images, thresholds, validation figures and lineage go in beside it.

All of it comes from the holdout and from the code a device runs; the finished package is tried as a device tries it.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from classifier.models import export as exports
from classifier.models import parity
from classifier.models.model import Model, load
from retrain.judging.answers import Asked, ask, check_one_tag, read
from retrain.judging.figures import likeliest
from retrain.judging.holdout import Case, Holdout, LeftOut
from retrain.package.golden import choose, steady
from retrain.package.lineage import samples, trained_on
from retrain.package.threshold import Threshold, chosen
from ripeloop.errors import BadImage, SettingsError
from ripeloop.package import (
    FOLDER,
    GOLDEN,
    MAX_GOLDEN,
    MAX_IMAGE_BYTES,
    PROVENANCE,
    THRESHOLDS,
    TOLERANCE,
    VALIDATION,
    Golden,
    GoldenSet,
    Package,
    read_golden,
    read_provenance,
    write,
)
from ripeloop.sampling import Sampling
from ripeloop.validation import Validation, measured

MAX_EXPORT_BYTES = exports.MAX_MODEL_BYTES + 64 * 1024 * 1024
MAX_GOLDEN_BYTES = 16 * 1024 * 1024
"""What all golden images of a package may have together: every device downloads them."""


@dataclass(frozen=True, slots=True)
class Order:
    """What shall go into the package.

    `golden` images at most, those `always` first; thresholds that leave at most the share `wrong_unflagged` of all
    images answered wrong and unseen; `lineage` and the judge's report as they are. `fast`: decode as devices do.
    """

    golden: int = 32
    always: Sequence[Path] = ()
    wrong_unflagged: float = 0.02
    fast: bool = True
    lineage: Mapping[str, Any] | None = None
    judged: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Built:
    """The package that was written, and what went into it."""

    path: Path
    version: str
    sha256: str
    golden: int
    threshold: Threshold
    validation: Validation
    left_out: tuple[LeftOut, ...]

    def to_json(self) -> dict[str, Any]:
        """What a program may want to know beyond the twin's words."""
        return {
            "file": str(self.path),
            "bytes": self.path.stat().st_size,
            "golden": self.golden,
            "threshold": self.threshold.to_json(),
            "validation": self.validation.to_json(),
            "left_out": [{"image": one.name, "why": one.why} for one in self.left_out],
        }


def build(
    export: Path, holdout: Holdout, out: Path, order: Order = Order(), seen: Callable[[int], None] = lambda _: None
) -> Built:
    """Write the package of `export` to `out`, whole or not at all; `seen` hears how many images are done.

    Raises BadModel for an export devices would refuse, SettingsError for files that do not fit together, OSError.
    """
    model = load(export, fast=order.fast)
    files, provenance = _files(export), provenance_of(export) | dict(order.lineage or {})
    asked = _asked(model, holdout, provenance, seen)
    golden = _golden(model, asked, order)
    if not golden.images:
        raise SettingsError("no image of the holdout is answered surely enough to be a golden one: label more images")
    if model.fast and model.disagreement(golden):  # then devices decode exactly, too: the figures must be of that
        model.fast = False
        asked = replace(asked, answered=ask([model], [one.case for one in asked.answered]).answered)
    said = [(one.case.tag, likeliest(one.answers[0])) for one in asked.answered]
    threshold = chosen([(best.probability, best.tag == tag) for tag, best in said], order.wrong_unflagged)
    validation = measured(model.tags, [one.answers[0] for one in asked.answered], [tag for tag, _ in said])
    provenance |= _origin(model, asked, threshold, order.judged)
    package = Package(files, golden, provenance, validation, Sampling(confidence_below=threshold.confidence_below))
    sha256 = _written(out, package)
    return Built(out, model.version, sha256, len(golden.images), threshold, validation, asked.left_out)


def judged_digest(report: Mapping[str, Any], digest: str, export: Path) -> dict[str, Any]:
    """What a package says of the judge's JSON report with that SHA-256. Raises SettingsError where it is of another."""
    candidate = report.get("candidate")
    found = candidate.get("sha256") if isinstance(candidate, Mapping) else None
    if found != model_sha256(export):
        raise SettingsError("the judge's report is about another model than this export: judge this one")
    kept = {key: report[key] for key in ("verdict", "images") if key in report}
    return kept | {"sha256": digest, "accuracy": candidate.get("accuracy") if candidate else None}


def model_sha256(path: Path) -> str:
    """The SHA-256 of the ONNX file in an export or a package: the same however it is wrapped. Raises BadModel."""
    return hashlib.sha256(exports.read(path).model).hexdigest()


def provenance_of(export: Path) -> dict[str, Any]:
    """What the package tells of its origin; nothing where it is a folder or a bare model. Raises BadModel."""
    if export.is_dir() or not zipfile.is_zipfile(export):
        return {}
    return read_provenance(export)


def _origin(model: Model, asked: Asked, threshold: Threshold, judged: Mapping[str, Any] | None) -> dict[str, Any]:
    """What is told of the making; of the holdout its size and the hash of its ids, which may be long."""
    seen = samples(one.id for one in asked.answered)
    seen.pop("ids", None)
    seen["audits"] = sum(one.case.audit for one in asked.answered)
    told = {"iterationId": model.iteration, "holdout": seen, "threshold": threshold.to_json()}
    return told | ({} if judged is None else {"judged": dict(judged)})


def _asked(model: Model, holdout: Holdout, provenance: Mapping[str, Any], seen: Callable[[int], None]) -> Asked:
    """What the model says of the holdout. Raises SettingsError where it cannot be judged by that."""
    asked = ask([model], holdout.cases, seen)
    saw = trained_on(provenance)
    if known := [one for one in asked.answered if one.id in saw]:
        raise SettingsError(
            f"the model was trained on {len(known)} images of this holdout ({known[0].case.name[:200]}, …): "
            "give images it never saw"
        )
    if not asked.answered:
        raise SettingsError("no image of the holdout can be used: " + "; ".join(
            f"{one.name[:200]}: {one.why}" for one in asked.left_out[:3]))  # fmt: skip
    return Asked(asked.answered, (*holdout.left_out, *asked.left_out))


def _golden(model: Model, asked: Asked, order: Order) -> GoldenSet:
    """Images with the exact answers to them: those that are always to be in, then some of the holdout."""
    always = [_expected(model, path) for path in order.always]
    if len(always) > MAX_GOLDEN or sum(len(one.image) for one in always) > MAX_GOLDEN_BYTES:
        raise SettingsError(f"a package takes {MAX_GOLDEN} golden images of {MAX_GOLDEN_BYTES} bytes: give fewer")
    more = choose(asked.answered, max(0, order.golden - len(always)), TOLERANCE)
    golden, room = list[Golden](), MAX_GOLDEN_BYTES
    for one in (*always, *_of_cases(model, [one.case for one in more])):
        if one.image not in [other.image for other in golden] and len(one.image) <= room:
            golden.append(one)
            room -= len(one.image)
    return GoldenSet(tuple(golden))


def _expected(model: Model, path: Path) -> Golden:
    """Raises SettingsError for an image a person named that cannot be one."""
    try:
        image = read(path)
        said = model.predict(image, exact=True)
    except BadImage as error:
        raise SettingsError(f"{path} cannot be a golden image: {error}") from error
    check_one_tag([said])
    if len(image) > MAX_IMAGE_BYTES or not steady(said, TOLERANCE):
        why = f"it has more than {MAX_IMAGE_BYTES} bytes" if len(image) > MAX_IMAGE_BYTES else (
            "two tags are nearly as likely, and another processor may find the other one likelier")  # fmt: skip
        raise SettingsError(f"{path} cannot be a golden image: {why}; take another")
    return Golden(image, said)


def _of_cases(model: Model, cases: Sequence[Case]) -> list[Golden]:
    golden = []
    for image in (read(case.path) for case in cases if case.path.stat().st_size <= MAX_IMAGE_BYTES):
        said = model.predict(image, exact=True)
        if steady(said, TOLERANCE):  # the answers before may have been fast ones
            golden.append(Golden(image, said))
    return golden


def _written(out: Path, package: Package) -> str:
    """The SHA-256 of the package, at `out` once it passed what a device asks of it."""
    unchecked = out.with_name(f"{out.name}.unchecked")
    try:
        sha256 = write(unchecked, package)
        parity.check(load(unchecked), read_golden(unchecked))
        unchecked.replace(out)
    except ValueError as error:
        raise SettingsError(f"the package cannot be built: {error}") from error
    finally:
        unchecked.unlink(missing_ok=True)
    return sha256


def _files(export: Path) -> dict[str, bytes]:
    """The files of the export by name, without what a package adds: of a package that is packed again, it is made anew.

    The export was loaded before, so its names are in order.
    """
    if not zipfile.is_zipfile(export):
        raise SettingsError(f"{export} is no zip; give the export as it was downloaded")
    with zipfile.ZipFile(export) as archive:
        if sum(info.file_size for info in archive.infolist()) > MAX_EXPORT_BYTES:
            raise SettingsError(
                f"{export} unpacks to more than {MAX_EXPORT_BYTES} bytes; an export is a model and texts"
            )
        content = {PurePosixPath(info.filename.replace("\\", "/")): archive.read(info)
                   for info in archive.infolist() if not info.is_dir()}  # fmt: skip
    tops = [path for path in content if path.name == exports.MANIFEST or path.suffix.lower() == ".onnx"]
    top = min(tops, key=lambda path: (len(path.parts), path.name)).parent
    inside = {str(path.relative_to(top)): data for path, data in content.items() if path.is_relative_to(top)}
    own = (GOLDEN, PROVENANCE, VALIDATION, THRESHOLDS)
    return {name: data for name, data in inside.items() if name not in own and not name.startswith(FOLDER)}
