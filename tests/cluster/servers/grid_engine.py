"""Grid Engine on this machine, from Debian's packages, which keep it in folders of their own."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import socket
import subprocess
from pathlib import Path

from .processes import CannotStartError, command, running, stop, wait_until
from .slurm import memory_mb

PROGRAMS = ("sge_qmaster", "sge_execd", "qsub", "qstat", "qdel", "qacct", "qconf")
ROOT = Path("/var/lib/gridengine")
COMMON = ROOT / "default" / "common"
SPOOL = Path("/var/spool/gridengine")
MARK = COMMON / "pyflowreg-test-cluster"
SLOTS = 4
QUEUES = ("all.q", "short.q")
ENVIRONMENT = {"SGE_ROOT": str(ROOT), "SGE_CELL": "default"}


class GridEngine:
    """One-node cluster.

    Parameters
    ----------
    folder : Path
        For what the configuration commands read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host = socket.gethostname().split(".")[0]
        self.started = False

    def check(self) -> None:
        """Raise `CannotStartError` where packages are missing or a real one is configured."""
        missing = [name for name in PROGRAMS if shutil.which(name) is None]
        if missing or not COMMON.is_dir():
            raise CannotStartError(
                "Grid Engine is not installed: tests/cluster/install.sh installs gridengine-master "
                "gridengine-exec gridengine-client"
            )
        if os.getuid() != 0:
            raise CannotStartError("Grid Engine's daemons are started as root only")
        if Path(os.environ.get("SGE_ROOT", ROOT)).resolve() != ROOT:
            raise CannotStartError("this machine belongs to a Grid Engine (SGE_ROOT): not touched")
        master = COMMON / "act_qmaster"
        name = master.read_text().strip() if master.exists() else self.host
        accounting = COMMON / "accounting"
        used = not MARK.exists() and accounting.exists() and accounting.stat().st_size > 0
        if name.split(".")[0] not in (self.host, "localhost") or used:
            raise CannotStartError(f"this machine belongs to a Grid Engine ({name}): not touched")
        active = running({"sge_qmaster", "sge_execd"})
        if active:
            raise CannotStartError(f"{active[0]} is running on this machine: not touched")
        try:
            socket.gethostbyname(self.host)
        except OSError as error:
            raise CannotStartError(f"the name of this machine, {self.host}: {error}") from error

    def start(self) -> None:
        self.check()
        self.started = True
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)
        admin = pwd.getpwnam("sgeadmin")
        # 127.0.0.1 is called localhost, too: the same machine.
        names = list(dict.fromkeys([self.host, "localhost", socket.getfqdn()]))
        for path, text in (
            (COMMON / "act_qmaster", self.host),
            (COMMON / "host_aliases", " ".join(names)),
            (MARK, "A cluster of one machine, for tests."),
        ):
            path.write_text(f"{text}\n")
            os.chown(path, admin.pw_uid, admin.pw_gid)
        self._pid_file("qmaster").unlink(missing_ok=True)
        self._daemon("sge_qmaster")
        if not wait_until(lambda: self._admin("qconf -sh", check=False), 30, 0.2):
            raise CannotStartError((self.folder / "sge_qmaster.out").read_text()[-2000:])
        for words in ("-am root", "-ao root", f"-ah {self.host}", f"-as {self.host}"):
            self._admin(f"qconf {words}", check=False)
        self._configure()
        execd = SPOOL / "execd"
        execd.mkdir(parents=True, exist_ok=True)
        os.chown(execd, admin.pw_uid, admin.pw_gid)
        for left in execd.glob("*/execd.pid"):
            left.unlink()
        self._daemon("sge_execd")
        if not wait_until(self._ready, 60, 0.3):
            raise CannotStartError(command("qstat", "-f", **ENVIRONMENT))

    def _daemon(self, program: str) -> None:
        with (self.folder / f"{program}.out").open("w") as out:
            subprocess.run(
                [program],
                stdout=out,
                stderr=out,
                env={**os.environ, **ENVIRONMENT},
                timeout=60,
                check=True,
            )

    def _admin(self, words: str, check: bool = True) -> bool:
        """Run a command as the administrator of the packages."""
        script = f"export SGE_ROOT={ROOT} SGE_CELL=default; cd /tmp; {words}"
        done = subprocess.run(
            ["su", "-s", "/bin/bash", "sgeadmin", "-c", script],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if check and done.returncode:
            raise CannotStartError(f"{words}: {done.stdout}{done.stderr}")
        return done.returncode == 0

    @staticmethod
    def _pid_file(daemon: str) -> Path:
        return SPOOL / "qmaster" / f"{daemon}.pid"

    @staticmethod
    def _ready() -> bool:
        done = subprocess.run(
            ["qstat", "-f"], capture_output=True, text=True, env={**os.environ, **ENVIRONMENT}
        )
        rows = [row.split() for row in done.stdout.splitlines() if row.startswith("all.q@")]
        # A queue that is ready has no sixth column, the letters of its state.
        return bool(rows) and len(rows[0]) == 5 and rows[0][4] == "lx-amd64"

    def _edited(self, show: str, load: str, *changes: tuple[str, str]) -> None:
        """Change lines of a configuration: patterns and what replaces them."""
        text = command("qconf", *show.split(), **ENVIRONMENT)
        for pattern, replacement in changes:
            text = re.sub(pattern, replacement, text, flags=re.MULTILINE)
        self._load(load, text)

    def _load(self, how: str, text: str) -> None:
        # -Mconf takes the name of what it changes from the name of the file.
        path = self.folder / "global"
        path.write_text(text)
        command("qconf", *how.split(), str(path), **ENVIRONMENT)

    def _has(self, *words: str) -> bool:
        done = subprocess.run(
            ["qconf", *words], capture_output=True, env={**os.environ, **ENVIRONMENT}
        )
        return done.returncode == 0

    def _configure(self) -> None:
        self._edited(
            "-sconf global",
            "-Mconf",
            (r"^(min_[ug]id +).*", r"\g<1>0"),  # root submits
            (r"^(load_report_time +).*", r"\g<1>00:00:02"),
            (r"^(mailer +).*", r"\g<1>/bin/true"),
            (r"flush_time=[0-9:]+", "flush_time=00:00:01"),
            (r"^(execd_params +).*", r"\g<1>ENABLE_ADDGRP_KILL=TRUE"),
        )
        self._edited(
            "-ssconf",
            "-Msconf",
            (r"^(schedule_interval +).*", r"\g<1>0:0:2"),
            (r"^(flush_(submit|finish)_sec +).*", r"\g<1>1"),
            (r"^(job_load_adjustments +).*", r"\g<1>NONE"),
            (r"^(load_adjustment_decay_time +).*", r"\g<1>0:0:0"),
        )
        # As on most clusters: memory is a consumable. A default of 0 for h_vmem would kill every
        # job that does not ask for it.
        text = command("qconf", "-sc", **ENVIRONMENT)
        text = re.sub(
            r"^(mem_free +\S+ +MEMORY +<= +YES +)\S+( +)\S+", r"\g<1>YES\g<2>0", text, flags=re.M
        )
        text = re.sub(
            r"^(h_vmem +\S+ +MEMORY +<= +YES +)\S+( +)\S+", r"\g<1>YES\g<2>16G", text, flags=re.M
        )
        text = re.sub(r"^gpu .*\n", "", text, flags=re.M)
        text += "gpu gpu INT <= YES JOB 0 0\n"
        self._load("-Mc", text)
        memory = memory_mb()
        host = (
            f"hostname {self.host}\nload_scaling NONE\n"
            f"complex_values slots={SLOTS},mem_free={memory}M,h_vmem={8 * memory}M,gpu=1\n"
            "user_lists NONE\nxuser_lists NONE\nprojects NONE\nxprojects NONE\n"
            "usage_scaling NONE\nreport_variables NONE\n"
        )
        self._load("-Me" if self._has("-se", self.host) else "-Ae", host)
        group = f"group_name @allhosts\nhostlist {self.host}\n"
        self._load("-Mhgrp" if self._has("-shgrp", "@allhosts") else "-Ahgrp", group)
        if not self._has("-sp", "smp"):
            text = Path("/usr/share/gridengine/util/resources/pe/smp").read_text()
            self._load("-Ap", re.sub(r"^slots .*", "slots 999", text, flags=re.M))
        for queue in QUEUES:
            text = command("qconf", "-sq", **ENVIRONMENT)  # the built-in template
            for key, value in (
                ("qname", queue),
                ("hostlist", "@allhosts"),
                ("slots", str(SLOTS)),
                ("pe_list", "smp make"),
                ("shell", "/bin/bash"),
                ("load_thresholds", "NONE"),
                ("rerun", "FALSE"),
                ("tmpdir", "/tmp"),
            ):
                text = re.sub(rf"^({key} +).*", rf"\g<1>{value}", text, flags=re.M)
            self._load("-Mq" if self._has("-sq", queue) else "-Aq", text)

    def stop(self) -> None:
        """Stop the daemons, if they are those of this object."""
        if not self.started:
            return
        for left in SPOOL.glob("execd/*/execd.pid"):
            stop(left, "sge_execd")
        stop(self._pid_file("qmaster"), "sge_qmaster")

    @staticmethod
    def accounting(job: str) -> dict[str, str]:
        """Return the accounting record of a job; empty while there is none."""
        done = subprocess.run(
            ["qacct", "-j", job], capture_output=True, text=True, env={**os.environ, **ENVIRONMENT}
        )
        if done.returncode:
            return {}
        return dict(re.findall(r"^(\w+) +(.*?) *$", done.stdout, flags=re.MULTILINE))
