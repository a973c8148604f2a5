"""Schedulers of one machine, for the time of a test run."""
