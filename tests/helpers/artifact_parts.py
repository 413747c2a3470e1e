"""Weights, images and golden examples for tests of artifacts."""

from __future__ import annotations

import io

from PIL import Image

from zoo.export import artifact, live
from zoo.export.standalone import arrays


def written(model, interface, folder, report=None):
    """Writes an artifact as `zoo.export.save` does, without its verification in another process."""
    folder.mkdir(parents=True)
    interface = artifact._fitting(model, interface)
    artifact._write(folder, model, interface, live.golden(model, interface), report or {}, {})
    return folder


def other_weights(model, prepared):
    other = prepared.build()
    other.set_weights([w * 1.5 for w in model.get_weights()])
    return other


def png(array):
    return encoded(Image.fromarray(array))


def encoded(image, format="PNG", **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def golden(version):
    return arrays.load(version / "assets.extra" / "golden.npz")
