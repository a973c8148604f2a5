"""What jobs ask for because of the backend that computes the optical flow."""

from __future__ import annotations

from functools import cached_property

from pyflowreg.core.backend_entries import BACKENDS, HostNeeds
from pyflowreg.core.backend_registry import host_needs, uses_gpu
from pyflowreg.session.config import SessionConfig
from pyflowreg.workflow.gpus import visible_gpus

CPU_ENVIRONMENT = "../envs/cpu.yaml"


def gpus_of(config: SessionConfig) -> int:
    """Return the GPUs of a job that computes the optical flow.

    Parameters
    ----------
    config : SessionConfig
        The session.

    Returns
    -------
    int
        1 for a backend that uses one, unless `backend_params.device` is cpu.
    """
    return int(uses_gpu(config.flow_backend, config.backend_params))


def names_one_gpu(config: SessionConfig) -> bool:
    """Return whether all jobs shall use one of several GPUs, as with ``device: cuda:1``.

    Parameters
    ----------
    config : SessionConfig
        The session.

    Returns
    -------
    bool
        False for the first one, which is the default: of those a job may use.
    """
    device = str(BACKENDS[config.flow_backend].values(config.backend_params).get("device", ""))
    return gpus_of(config) > 0 and device.partition(":")[2] not in ("", "0")


class BackendJobs:
    """The part of a plan that follows from `flow_backend` and `backend_params`.

    Attributes
    ----------
    config : SessionConfig
        The session.
    """

    config: SessionConfig

    @property
    def gpus(self) -> int:
        """GPUs of a job that computes the optical flow: 1 for a backend that uses one."""
        return gpus_of(self.config)

    @property
    def align_gpus(self) -> int:
        """GPUs of a job that writes an aligned video: 1 for a backend that warps on one."""
        return self.gpus * BACKENDS[self.config.flow_backend].warps

    @property
    def environment(self) -> str:
        """Conda environment of a job that computes the optical flow, relative to the rules."""
        extra = BACKENDS[self.config.flow_backend].extra
        return f"../envs/{extra}.yaml" if extra else CPU_ENVIRONMENT

    @property
    def align_environment(self) -> str:
        """Conda environment of a job that writes an aligned video."""
        return self.environment if BACKENDS[self.config.flow_backend].warps else CPU_ENVIRONMENT

    @property
    def align_libraries_mb(self) -> int:
        """Memory of the libraries of a backend that warps, MB."""
        return self.needs.libraries_mb * BACKENDS[self.config.flow_backend].warps

    @property
    def needs(self) -> HostNeeds:
        """What jobs that compute the optical flow need of the machine they run on."""
        return host_needs(self.config.flow_backend, self.config.backend_params)

    @cached_property
    def gpus_here(self) -> int:
        """GPUs of this machine, at least 1, that jobs may use at the same time; 0 if none does."""
        if names_one_gpu(self.config):
            return 1
        return max(1, len(visible_gpus())) if self.gpus else 0
