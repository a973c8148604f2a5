#!/usr/bin/env bash
# Install the schedulers that `make test-cluster` starts: Debian's SLURM and Grid Engine, without
# starting any of their services. Needs root; half a minute.
set -euo pipefail

if [ -e /etc/slurm/slurm.conf ] || [ -n "${SGE_ROOT:-}" ]; then
  echo "This machine belongs to a cluster already; nothing is installed." >&2
  exit 1
fi
export DEBIAN_FRONTEND=noninteractive
host=$(hostname -s)
for package in master client common; do
  debconf-set-selections <<SELECTIONS
gridengine-$package shared/gridengineconfig boolean true
gridengine-$package shared/gridenginecell string default
gridengine-$package shared/gridenginemaster string $host
SELECTIONS
done

# Packages start their services when they are installed, unless this file forbids it.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod +x "$policy"
  trap 'rm -f "$policy"' EXIT
fi
apt-get update -qq
apt-get install -y -qq --no-install-recommends \
  slurmctld slurmd slurm-client munge slurm-wlm-basic-plugins \
  gridengine-master gridengine-exec gridengine-client
