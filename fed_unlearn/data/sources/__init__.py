"""Where labelled images come from: scikit-learn, torchvision, folders, Hugging Face."""

from fed_unlearn.data.sources.base import ImageSource
from fed_unlearn.data.sources.load import load_source

__all__ = ["ImageSource", "load_source"]
