"""The steps of the optical flow as operations on tensors of many frames, for PyTorch.

Arrays are (T, C, h, w) or (T, 2, h, w), on any device. Only operations whose result at a point does
not depend on where in memory it is are used, so that the frames of a batch do not depend on each
other; sums over frames, channels or taps are written out for the same reason.
"""
