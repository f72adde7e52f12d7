"""An app's own DataLoaders and training function as a task."""

from fed_unlearn.client.loaders.task import LoaderTask

__all__ = ["LoaderTask"]
