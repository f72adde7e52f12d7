"""Handwritten digits whose ids are UUIDs, so that a search finds any id that left its node."""

from __future__ import annotations

from dataclasses import replace
from uuid import NAMESPACE_OID, uuid5

from fed_unlearn.data.clients import ImageSource
from fed_unlearn.data.images import ImageSet
from fed_unlearn.data.sources import load_source


def digits_with_uuids(**settings: object) -> ImageSource:
    """The digits, each with a UUID of its own."""
    source = load_source("digits", **settings)  # type: ignore[arg-type]
    return replace(source, train=_renamed("train", source.train), test=_renamed("test", source.test))


def _renamed(part: str, images: ImageSet) -> ImageSet:
    return ImageSet(images.images, images.labels, [str(uuid5(NAMESPACE_OID, f"{part} {name}")) for name in images.ids])
