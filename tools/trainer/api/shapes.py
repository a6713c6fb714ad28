"""Custom Vision's JSON: each value of ours in the words of its API."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trainer.api.links import EXPORT_SECONDS, IMAGE_SECONDS, Links
from trainer.learning.figures import Figure
from trainer.state import domains
from trainer.state.domains import Domain
from trainer.state.exports import DONE, Export, file_of
from trainer.state.files import IMAGES, PREDICTIONS
from trainer.state.images import Described, Image
from trainer.state.iterations import Iteration
from trainer.state.predictions import Answered
from trainer.state.projects import Project
from trainer.state.tags import Given, Pair, Tag
from trainer.state.uploads import OK, Result

Json = dict[str, Any]

# what version 3.3 has no word for
_IN_3_3 = {"ErrorImageDimensions": "ErrorImageSize", "ErrorInvalidTag": "ErrorUnknown"}


@dataclass(frozen=True, slots=True)
class Shapes:
    """Makes the JSON of one answer; its links begin with `origin`, the address the client reached us at."""

    origin: str
    links: Links
    version: str = "v3.4-preview"

    def domain(self, domain: Domain) -> Json:
        """A domain."""
        shape: Json = {
            "id": domain.id,
            "name": domain.name,
            "type": "ObjectDetection" if domain.detects else "Classification",
            "exportable": domain.exportable,
            "enabled": not domain.detects,
        }
        if self.version != "v3.3":
            about = "not done by this trainer" if domain.detects else "EfficientNet-Lite0, a frozen backbone"
            shape["exportablePlatforms"] = list(domains.EXPORTED) if domain.exportable else []
            shape["modelInformation"] = {"description": about}
            if domain.exportable:
                shape["modelInformation"]["estimatedModelSizeInMegabytes"] = domains.MEGABYTES
        return shape

    def project(self, project: Project) -> Json:
        """A project."""
        shape: Json = {
            "id": project.id,
            "name": project.name,
            "description": project.description or "",
            "settings": {
                "domainId": project.domain,
                "classificationType": project.kind,
                "targetExportPlatforms": list(project.platforms),
                "useNegativeSet": project.negative,
            },
            "created": project.created,
            "lastModified": project.modified,
            "drModeEnabled": False,
            "status": project.status,
        }
        if project.augmentation is not None:
            shape["settings"]["imageProcessingSettings"] = {"augmentationMethods": dict(project.augmentation)}
        if project.thumbnail:
            shape["thumbnailUri"] = self._image_link(project.id, project.thumbnail, "thumbnail")
        return shape

    def image(self, project: str, image: Image) -> Json:
        """An image."""
        return {
            "id": image.id,
            "created": image.created,
            "width": image.width,
            "height": image.height,
            **self.links_of(project, image.id),
            "tags": _tags(image) or None,
            "regions": None,
            "metadata": dict(image.metadata) or None,
        }

    def links_of(self, project: str, id_: str, kind: str = IMAGES) -> Json:
        """Where an image can be seen."""
        return {
            "resizedImageUri": self._image_link(project, id_, "resized", kind),
            "thumbnailUri": self._image_link(project, id_, "thumbnail", kind),
            "originalImageUri": self._image_link(project, id_, "original", kind),
        }

    def summary(self, project: str, results: Sequence[Result]) -> tuple[int, Json]:
        """What came of a batch, and the status of its answer: 207 where not every image is new and well."""
        well = all(result.status == OK for result in results)
        images = []
        for result in results:
            status = _IN_3_3.get(result.status, result.status) if self.version == "v3.3" else result.status
            shape: Json = {"sourceUrl": result.source, "status": status}
            if result.image:
                shape["image"] = self.image(project, result.image)
            images.append(shape)
        return 200 if well else 207, {"isBatchSuccessful": well, "images": images}

    def iteration(self, iteration: Iteration) -> Json:
        """An iteration."""
        shape: Json = {
            "id": iteration.id,
            "name": iteration.name,
            "status": iteration.status,
            "created": iteration.created,
            "lastModified": iteration.modified,
            "trainedAt": iteration.trained,
            "projectId": iteration.project,
            "exportable": iteration.exportable,
            "exportableTo": list(domains.EXPORTED) if iteration.exportable else [],
            "domainId": iteration.domain,
            "classificationType": iteration.kind,
            "trainingType": iteration.training,
            "reservedBudgetInHours": iteration.hours,
            "trainingTimeInMinutes": math.ceil(iteration.seconds / 60),
        }
        for name, value in (
            ("publishName", iteration.published),
            ("originalPublishResourceId", iteration.resource),
            ("trainingErrorDetails", iteration.why),
        ):
            if value is not None:
                shape[name] = value
        return shape

    def export(self, project: str, export: Export) -> Json:
        """An export, with its address once it is done; what failed has no place in Custom Vision's shape."""
        shape: Json = {
            "platform": "ONNX",
            "status": export.status,
            "flavor": export.flavor or None,
            "newerVersionAvailable": False,
        }
        if export.status == DONE:
            path = f"/files/{project}/models/{export.iteration}/{file_of(export.flavor)}"
            shape["downloadUri"] = self.origin + self.links.signed(path, EXPORT_SECONDS)
        return shape

    def performed(self, project: str, image: Image, answer: Sequence[Json]) -> Json:
        """An image with what cross-validation said of it."""
        return {
            "predictions": list(answer),
            "id": image.id,
            "created": image.created,
            "width": image.width,
            "height": image.height,
            "imageUri": self._image_link(project, image.id, "original"),
            "thumbnailUri": self._image_link(project, image.id, "thumbnail"),
            "tags": _tags(image) or None,
            "regions": None,
        }

    def stored(self, answer: Answered) -> Json:
        """A stored prediction."""
        links = self.links_of(answer.project, answer.id, PREDICTIONS)
        return {**prediction(answer), **links, "domain": answer.domain}

    def suggested(self, answer: Answered, image: Image) -> Json:
        """A suggestion with its image, whose id it has."""
        return {
            **suggestion(answer),
            "id": image.id,
            "width": image.width,
            "height": image.height,
            **self.links_of(answer.project, image.id),
            "domain": answer.domain,
        }

    def _image_link(self, project: str, id_: str, size: str, kind: str = IMAGES) -> str:
        return self.origin + self.links.signed(f"/files/{project}/{kind}/{id_}/{size}", IMAGE_SECONDS)


def tag(tag: Tag) -> Json:
    """A tag."""
    return {
        "id": tag.id,
        "name": tag.name,
        "description": tag.description or "",
        "type": tag.type,
        "imageCount": tag.images,
    }


def given(given: Given) -> Json:
    """What came of giving tags."""

    def pairs(some: Sequence[Pair]) -> list[Json] | None:
        return [{"imageId": pair.image, "tagId": pair.tag} for pair in some] or None

    return {
        "created": pairs(given.created),
        "duplicated": pairs(given.duplicated),
        "exceeded": pairs(given.exceeded),
    }


def described(results: Sequence[Described]) -> tuple[int, Json]:
    """What came of describing images, and the status of the answer."""
    well = all(result.status == OK for result in results)
    images = [{"imageId": one.id, "status": one.status, "metadata": dict(one.metadata) or None} for one in results]
    return 200 if well else 207, {"isBatchSuccessful": well, "images": images}


def figure(figure: Figure) -> Json:
    """Figures of a tag or of all."""
    return {
        "precision": figure.precision,
        "precisionStdDeviation": figure.precision_deviation,
        "recall": figure.recall,
        "recallStdDeviation": figure.recall_deviation,
        "averagePrecision": figure.average_precision,
    }


def prediction(answer: Answered) -> Json:
    """The answer to an image."""
    return {
        "id": answer.id,
        "project": answer.project,
        "iteration": answer.iteration,
        "created": answer.created,
        "predictions": answer.answer,
    }


def suggestion(answer: Answered) -> Json:
    """A suggestion for an image."""
    return {**prediction(answer), "predictionUncertainty": answer.uncertainty}


def _tags(image: Image) -> list[Json]:
    return [{"tagId": tag.id, "tagName": tag.name, "created": tag.created} for tag in image.tags]
