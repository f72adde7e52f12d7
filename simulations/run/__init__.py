"""One run of a scenario, and the run folder that it leaves."""
