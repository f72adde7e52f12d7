"""Where labelled images come from: scikit-learn, torchvision, folders, Hugging Face, and sources of other packages.

Another package offers a source through the entry point group ``fed_unlearn.sources``, as
:class:`fed_unlearn.registry.Registry` describes: a subclass of :class:`Source` that :func:`register` names.
"""

from fed_unlearn.data.clients import ImageSource
from fed_unlearn.data.sources.base import SOURCES, Source, make_source, register
from fed_unlearn.data.sources.load import load_source

__all__ = ["SOURCES", "ImageSource", "Source", "load_source", "make_source", "register"]
