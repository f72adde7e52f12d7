"""The commands that are run where a node or a SuperLink runs."""
