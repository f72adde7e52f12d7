"""What a data source gives: labelled images in a training and a test part."""

from __future__ import annotations

from dataclasses import dataclass

from fed_unlearn.data.images import ImageSet


@dataclass(frozen=True, eq=False)
class ImageSource:
    """A labelled image data set with its training and test parts.

    Attributes
    ----------
    train, test : ImageSet
        Labels are 0 to ``class_count`` - 1. Ids are those that the source's owner gave where there are such,
        else the index in the source's split.
    class_names : tuple of str
        One a class; the label itself where the source names none.
    fingerprint : str
        SHA-256 of the content: images, labels and ids. A changed source has another.
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
        _, channels, height, width = self.train.images.shape
        return channels, height, width
