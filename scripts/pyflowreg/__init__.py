"""Motion correction and alignment of two-photon sessions with variational optical flow."""

__version__ = "0.1.0"

NUMERICS_REVISION = 3
"""Raised whenever released results change; part of every fingerprint."""
