# The demo sessions, simulated with known motion. A workflow of its own, because the session's
# workflow looks for its recordings when it starts:
#
#   snakemake --snakefile rules/demo.smk -j 1 session
#   snakemake --configfile config/demo.yaml -j 2
#
# and the same with session_2channel and config/demo_2channel.yaml.

from snakemake.utils import min_version

min_version("9.20")


NUMBERS = range(1, 6)
CHANNELS = {"session": 1, "session_2channel": 2}


rule session:
    input:
        expand("demo/session/recording_{number:02d}.tif", number=NUMBERS),
    localrule: True


rule session_2channel:
    input:
        expand("demo/session_2channel/recording_{number:02d}.tif", number=NUMBERS),
    localrule: True


rule simulate_session:
    output:
        recordings=expand("demo/{{session}}/recording_{number:02d}.tif", number=NUMBERS),
        truth=expand(
            "demo/{{session}}/truth/recording_{number:02d}_truth.npz", number=NUMBERS
        ),
    log:
        "<logs>/simulate_session/{session}.log",
    wildcard_constraints:
        session="|".join(CHANNELS),
    conda:
        "../envs/cpu.yaml"
    params:
        folder=lambda wildcards: f"demo/{wildcards.session}",
        n_recordings=len(NUMBERS),
        channels=lambda wildcards: CHANNELS[wildcards.session],
    script:
        "../scripts/simulate_session.py"
