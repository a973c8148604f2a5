"""Compiled kernels: where they are kept between runs, and what is told about compiling."""
