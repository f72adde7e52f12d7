"""The client side: unlearning actions for any Flower ClientApp, and the view of its data that it may train on."""

from fed_unlearn.client.installing import install
from fed_unlearn.client.loaders import LoaderTask
from fed_unlearn.client.retained_view import retained
from fed_unlearn.client.session import ClientSession, current_session

__all__ = ["ClientSession", "LoaderTask", "current_session", "install", "retained"]
