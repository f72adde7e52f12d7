"""The strategy of Flower that is wrapped: its kind, its state, its aggregation and its sampling."""
