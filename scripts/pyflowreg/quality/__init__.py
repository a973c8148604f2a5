"""Numbers and pictures that tell how well a session was corrected."""
