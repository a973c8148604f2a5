"""A session under everything that can go wrong, again and again: `make soak MINUTES=20`."""
