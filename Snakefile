# Motion correction and alignment of a session of two-photon recordings.
#
#   snakemake -j 8                             the session of config/config.yaml
#   snakemake -j 8 --configfile mine.yaml      another one, described completely by mine.yaml
#   snakemake -n                               what would be done
#
# config/README.md explains the settings, scripts/README.md how the pieces fit together.

from snakemake.utils import min_version

min_version("9.20")


# A file given on the command line replaces the default instead of being merged into it.
if not workflow.overwrite_configfiles:

    configfile: "config/config.yaml"


include: "rules/common.smk"
include: "rules/stage1.smk"
include: "rules/stage2.smk"
include: "rules/stage3.smk"


wildcard_constraints:
    recording=PLAN.constraint,


rule all:
    default_target: True
    input:
        results,


# Before the first job: nobody else works on the session, and the headers of all recordings fit.
# Settings and file names were checked above.
onstart:
    hold_session()
    check_headers()
