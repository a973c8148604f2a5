"""Simulate the recordings of a demo session."""

from pyflowreg.workflow.job import job_context

with job_context(snakemake):
    from pyflowreg.simulation import SimulationConfig, simulate_session

    simulation = SimulationConfig(
        n_recordings=snakemake.params.n_recordings, channels=snakemake.params.channels
    )
    simulate_session(simulation, snakemake.params.folder)
