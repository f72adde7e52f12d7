"""The report of a run while it grows, served on this machine."""
