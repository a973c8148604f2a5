"""OpenCV's DIS optical flow, for worker.py."""

from common import time_pairs, versions


def about():
    return versions("opencv-contrib-python", "numpy")


def displacement(pairs, options, out=None, threads=1):
    """Seconds of DIS, medium preset, for every pair of frames; it takes 8-bit images."""
    import cv2
    import numpy as np

    cv2.setNumThreads(threads)
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)

    def run(fixed, moving):
        eight = [np.clip(255 * image + 0.5, 0, 255).astype(np.uint8) for image in (fixed, moving)]
        return flow.calc(*eight, None)

    return time_pairs(run, pairs, out)
