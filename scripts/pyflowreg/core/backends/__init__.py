"""Flow backends, one module each."""
