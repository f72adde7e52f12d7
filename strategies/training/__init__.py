"""Training rounds, experiences, and the rounds that are kept for replay."""
