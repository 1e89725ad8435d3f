#!/bin/sh
# What the scripts beside this file do. Usage: common.sh prolog|epilog|healthcheck|idlecheck
# Exit code 77: the node must not take work. Everything else is no verdict.
set -u
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin # Slurm gives none
LC_ALL=C
export PATH LC_ALL
umask 077

caller=$1
here=${0%/*}
node=${SLURMD_NODENAME:-}
job=${SLURM_JOB_ID:+ job $SLURM_JOB_ID:}

say() { # slurmd.log shows stderr only of a script that failed, or when slurmd debugs
    said=$(printf '%s' "$*" | tr -c '[:print:]' '?' | cut -c -1000)
    printf '%s\n' "gpu-validator $caller:$job $said" >&2
    if [ -n "$LOGGER" ]; then # which waits for as long as syslog does
        timeout -k 1 2 "$LOGGER" -t "gpu-validator-$caller" -- "$job $said" 2>/dev/null 8>&- 9>&-
    fi
}

LOGGER=/usr/bin/logger
settings=$here/settings
# A file that does not parse would end this shell at the dot.
if ! /bin/sh -n "$settings"; then
    say "$settings cannot be read: nothing is checked"
    exit 0
fi
# shellcheck source=SCRIPTDIR/settings
. "$settings"
# shellcheck source=SCRIPTDIR/state.sh
. "$here/state.sh"
# shellcheck source=SCRIPTDIR/defaults.sh
. "$here/defaults.sh"
if [ -n "$SLURM_CONF" ]; then export SLURM_CONF; fi

# shellcheck source=SCRIPTDIR/judge.sh
. "$here/judge.sh"
case $caller in
prolog)
    give_way
    around_job "$MAX_AGE" "$PROLOG_BUDGET_S"
    ;;
epilog) around_job "$EPILOG_MAX_AGE" "$EPILOG_BUDGET_S" ;;
healthcheck | idlecheck)
    # shellcheck source=SCRIPTDIR/node.sh
    . "$here/node.sh"
    # shellcheck source=SCRIPTDIR/gres.sh
    . "$here/gres.sh"
    # shellcheck source=SCRIPTDIR/idle.sh
    . "$here/idle.sh"
    # shellcheck source=SCRIPTDIR/health.sh
    . "$here/health.sh"
    if [ "$caller" = idlecheck ]; then idle_check; else health; fi
    ;;
esac
exit 0
