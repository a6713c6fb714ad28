"""What the two Flask servers share: the exported container's route and answer, on Flask's own development server.

They stand for the containers Custom Vision exports: written from what those do, with the same model as ours, in
onnxruntime as it is without settings. Only how the image is prepared differs.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from flask import Flask, jsonify, request
from PIL import Image

from classifier.models.runtime import onnxruntime
from trainer.learning.export import PROBABILITIES

MAX_BODY = 4 * 1024 * 1024

Prepare = Callable[[Image.Image, int], npt.NDArray[np.float32]]
"""An opened image and the side of the model's square, to the pixels [side, side, 3], 0 to 255, red first."""


def application(export: Path, prepare: Prepare) -> Flask:
    """The container's HTTP side with the model of `export`."""
    with zipfile.ZipFile(export) as archive:
        session = onnxruntime.InferenceSession(archive.read("model.onnx"), providers=["CPUExecutionProvider"])
        tags = archive.read("labels.txt").decode().splitlines()
    wanted = session.get_inputs()[0]
    app = Flask("container")
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY

    @app.post("/image")
    def image() -> Any:
        posted = request.files["imageData"].read() if "imageData" in request.files else request.get_data()
        with Image.open(io.BytesIO(posted)) as opened:
            pixels = prepare(opened, wanted.shape[2])
        tensor = np.ascontiguousarray(pixels.transpose(2, 0, 1)[np.newaxis]) / np.float32(255)
        (row,) = session.run([PROBABILITIES], {wanted.name: tensor})
        predictions = [
            {"tagName": tag, "probability": round(float(p), 8), "tagId": "", "boundingBox": None}
            for tag, p in zip(tags, row[0], strict=True)
        ]
        created = datetime.now(UTC).replace(tzinfo=None).isoformat()
        return jsonify({"id": "", "project": "", "iteration": "", "created": created, "predictions": predictions})

    return app
