"""Dense optical flow: pyramid, motion tensor, solver, warping."""
