"""Schedulers: what a job asks for, in the words of SLURM, Grid Engine and PBS.

Standard library only: the scripts in profiles/ use these modules, too.
"""
