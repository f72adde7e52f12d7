"""The result of loading a data source: labelled images in a training and a test part."""

from __future__ import annotations

from dataclasses import dataclass

from fed_unlearn.data.images import ImageSet


@dataclass(frozen=True, eq=False)
class ImageSource:
    """A labelled image data set with its training and test parts.

    Attributes
    ----------
    train, test : ImageSet
        The samples. Labels are 0 to ``class_count`` - 1. Ids are those of the source's owner if there are any, else
        the index in the source's split.
    class_names : tuple of str
        Name of each class. The label itself if the source has no names.
    fingerprint : str
        SHA-256 of the content: images, labels and ids. A changed source has another fingerprint.
    """

    train: ImageSet
    test: ImageSet
    class_names: tuple[str, ...]
    fingerprint: str

    @property
    def class_count(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of every image."""
        return self.train.image_shape
