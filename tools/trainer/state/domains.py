"""Custom Vision's domains. Here they all train alike; what differs is whether an iteration can be exported."""

from __future__ import annotations

from dataclasses import dataclass

from trainer.errors import Problem, not_found

PLATFORMS = ("CoreML", "TensorFlow", "DockerFile", "ONNX", "VAIDK", "OpenVino")
EXPORTED = ("ONNX",)
MEGABYTES = 14


@dataclass(frozen=True, slots=True)
class Domain:
    """One entry of the list; `detects` marks those for object detection, which this trainer does not do."""

    id: str
    name: str
    exportable: bool = False
    detects: bool = False


GENERAL = "ee85a74c-405e-4adc-bb47-ffa8ca0c9f31"
COMPACT = "0732100f-1a38-4e49-a514-c9b44c697ab5"

DOMAINS = (
    Domain(GENERAL, "General"),
    Domain("a8e3c40f-fb4a-466f-832a-5e457ae4a344", "General [A1]"),
    Domain("2e37d7fb-3a54-486a-b4d6-cfc369af0018", "General [A2]"),
    Domain("c151d5b5-dd07-472a-acc8-15d29dea8518", "Food"),
    Domain("ca455789-012d-4b50-9fec-5bb63841c793", "Landmarks"),
    Domain("b30a91ae-e3c1-4f73-a81e-c270bff27c39", "Retail"),
    Domain(COMPACT, "General (compact)", exportable=True),
    Domain("a1db07ca-a19a-4830-bae8-e004a42dc863", "General (compact) [S1]", exportable=True),
    Domain("b5cfd229-2ac7-4b2b-8d0a-2b0661344894", "Landmarks (compact)", exportable=True),
    Domain("6b4faeda-8396-481b-9f8b-177b9fa3097f", "Retail (compact)", exportable=True),
    Domain("da2e3a8a-40a5-4171-82f4-58522f70fbc1", "General", detects=True),
    Domain("9c616dff-2e7d-ea11-af59-1866da359ce6", "General [A1]", detects=True),
    Domain("1d8ffafe-ec40-4fb2-8f90-72b3b6cecea4", "Logo", detects=True),
    Domain("3780a898-81c3-4516-81ae-3a139614e1f3", "Products on Shelves", detects=True),
    Domain("a27d5ca5-bb19-49d8-a70a-fec086c47f5b", "General (compact)", detects=True),
    Domain("7ec2ac80-887b-48a6-8df9-8b1357765430", "General (compact) [S1]", detects=True),
)
_BY_ID = {domain.id: domain for domain in DOMAINS}


def get(id_: str) -> Domain:
    """The domain of that id. Raises Problem."""
    if id_ not in _BY_ID:
        raise not_found("Domain", id_)
    return _BY_ID[id_]


def for_project(id_: str) -> Domain:
    """The domain, if a project here may have it. Raises Problem."""
    if id_ not in _BY_ID:
        raise Problem("BadRequestProjectUnknownDomain", f"there is no domain {id_}: get_domains lists them")
    if _BY_ID[id_].detects:
        raise Problem(
            "BadRequestUnsupportedDomain",
            "this trainer classifies whole images and detects no objects: choose a domain of type Classification",
        )
    return _BY_ID[id_]
