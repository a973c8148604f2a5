"""Benchmarks of this package beside what a user would take instead; see ../README.md."""
