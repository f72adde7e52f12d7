"""Engines that run the Flower app: Ray, behind a local SuperLink."""
