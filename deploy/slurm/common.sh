#!/bin/sh
# What prolog, epilog and health check do. Usage: common.sh prolog|epilog|healthcheck
# Exit code 77: the node must not take work. Everything else is no verdict.
set -u
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin # Slurm gives none
export PATH
umask 077

caller=$1
node=${SLURMD_NODENAME:-}
job=${SLURM_JOB_ID:+ job $SLURM_JOB_ID:}

say() { # slurmd.log shows stderr only of a script that failed, or when slurmd debugs
    echo "gpu-validator $caller:$job $*" >&2
    if [ -n "${LOGGER:-}" ]; then "$LOGGER" -t "gpu-validator-$caller" -- "$job $*" 2>/dev/null; fi
}

settings=${0%/*}/settings
# A file that does not parse would end this shell at the dot.
if ! /bin/sh -n "$settings"; then
    say "$settings cannot be read: nothing is checked"
    exit 0
fi
# shellcheck source=SCRIPTDIR/settings
. "$settings"
if [ -n "$SLURM_CONF" ]; then export SLURM_CONF; fi

# Judge the devices that the arguments name. Sets verdict (pass, fail, error), line, its text, and
# source: whether the daemon answered, or why not.
judge() { # max-age budget [option...]
    age=$1
    budget=$2
    shift 2
    if [ -n "$age" ]; then set -- --max-age "$age" --server "$SERVER" "$@"; fi
    if [ -n "$age" ] && [ "$RUN" = no ]; then set -- --no-run "$@"; fi
    # A daemon that hangs costs 2 s, starting and ending 2 s more; then the run still tells how far
    # it came. timeout(1) is for one that does not end itself.
    limit=$((budget > 6 ? budget - 5 : 1))
    # ASCII, for logs and reasons.
    output=$(PYTHONIOENCODING=ascii timeout -k 1 "$((budget - 1))" "$GPU_VALIDATOR" check --quiet \
        --profile "$PROFILE" --timeout "$limit" "$@" 2>&1 9>&-)
    source=$(echo "$output" | sed -n 's/^gpu-validator: //p' | head -n 1)
    # The last line is the verdict, and how long it took.
    line=$(echo "$output" | tail -n 1 |
        sed -n -E 's/^[^ ]+ ((pass|warn|fail|error): .*)$/\1/p' | sed -E 's/ - [0-9.]+ s$//')
    case $line in
    pass:* | warn:*) verdict=pass ;;
    fail:*) verdict=fail ;;
    error:*) verdict=error ;;
    *)
        verdict=error
        line="error: no verdict from $GPU_VALIDATOR within $budget s: $(echo "$output" | tail -n 1)"
        ;;
    esac
    case $verdict in
    fail) wanted=$ON_FAIL ;;
    error) wanted=$ON_ERROR ;;
    *) wanted=allow ;;
    esac
}

# The UUID of the GPU whose device file is /dev/nvidiaN; fails where the driver does not tell.
uuid_of() { # N
    for file in "$NVIDIA_GPUS"/*/information; do
        if grep -q "^Device Minor:[[:space:]]*$1\$" "$file" 2>/dev/null; then
            sed -n -E 's/^GPU UUID:[[:space:]]*(GPU-[0-9a-fA-F-]+)$/\1/p' "$file" | grep .
            return
        fi
    done
    return 1
}

# Judge the job's GPUs, which SLURM_JOB_GPUS names by the numbers of their device files. Of MIG
# instances it has numbers of Slurm's own: those are told by CUDA_VISIBLE_DEVICES alone, by UUID. A
# GPU that is not there is a fail: no job can run on it.
judge_job() { # max-age budget
    age=$1
    budget=$2
    set --
    uuids='' guessed=''
    gpus=$SLURM_JOB_GPUS
    case ${CUDA_VISIBLE_DEVICES:-} in
    MIG-* | GPU-*) gpus=$CUDA_VISIBLE_DEVICES ;;
    esac
    for gpu in $(echo "$gpus" | tr , ' '); do
        case $gpu in
        MIG-* | GPU-*) uuid=$gpu ;;
        *[!0-9]*)
            verdict=error wanted=$ON_ERROR source=
            line="error: SLURM_JOB_GPUS=$SLURM_JOB_GPUS is no list of numbers"
            return
            ;;
        *)
            uuid=$(uuid_of "$gpu") || uuid=
            # Where no driver numbers its GPUs so, what torch calls them is a guess.
            ls "$NVIDIA_GPUS"/*/information >/dev/null 2>&1 || guessed=yes
            ;;
        esac
        set -- "$@" --device "${uuid:-$DEVICE_TYPE:$gpu}"
        uuids=${uuids:+$uuids,}${uuid:-unknown}
    done
    # What Slurm set numbers GPUs as the job will see them.
    unset CUDA_VISIBLE_DEVICES ROCR_VISIBLE_DEVICES HIP_VISIBLE_DEVICES GPU_DEVICE_ORDINAL ZE_AFFINITY_MASK
    case $uuids in
    *unknown*) ;;
    *) # a run then sees no GPU of another job's
        export CUDA_VISIBLE_DEVICES="$uuids"
        ;;
    esac
    judge "$age" "$budget" "$@"
    case $guessed$line in
    yes*": not here, "*) verdict=error wanted=$ON_ERROR line="error: ${line#*: }" ;;
    esac
}

# Prolog and epilog.
around_job() { # max-age budget
    [ -n "${SLURM_JOB_GPUS:-}" ] || exit 0 # a job without GPUs
    case " ${SLURM_JOB_COMMENT:-} " in
    *" gpu-validator=off "*)
        if [ "$OPT_OUT" = yes ]; then
            say "spared: its comment says gpu-validator=off"
            exit 0
        fi
        ;;
    esac
    judge_job "$@"
    say "$line${source:+ ($source)}"
    [ "$wanted" = drain ] || exit 0
    # Slurm will give "Prolog error" as the reason; by this the health check knows it for ours.
    if mkdir -p "$STATE_DIR"; then echo "$line" >"$STATE_DIR/drained"; fi
    exit 77
}

scontrol() {
    timeout -k 1 10 "$SCONTROL" "$@" 9>&-
}

# Set reason and state as slurmctld has them.
look() {
    shown=$(scontrol show node "$node") || return
    # The reason is on a line of its own: text [user@time].
    reason=$(echo "$shown" | sed -n -E 's/^ *Reason=(.*)$/\1/p' | sed -E 's/ \[[^][]*@[^][]*\]$//')
    state=$(echo "$shown" | sed -n -E 's/^ *State=([^ ]+).*$/\1/p')
}

# Whether we drained the node.
ours() {
    case $reason in
    "gpu-validator:"*) return 0 ;;
    "Prolog error" | "Epilog error") [ -e "$STATE_DIR/drained" ] ;;
    *) return 1 ;;
    esac
}

health() {
    # Slurm starts the next one while a slow one still runs.
    mkdir -p "$STATE_DIR"
    exec 9>>"$STATE_DIR/lock"
    flock -n 9 || exit 0
    echo "$$" >"$STATE_DIR/began"
    judge "$MAX_AGE" "$HEALTH_BUDGET_S"
    if ! look; then
        say "$line; but slurmctld does not tell of $node"
        exit 0
    fi
    text="gpu-validator: $(echo "$line" | tr -d '"'"'")"
    if [ "$wanted" = drain ]; then
        if ours && [ "$reason" != "$text" ]; then
            scontrol update NodeName="$node" Reason="$text" && say "reason renewed: $line"
        elif [ -z "$reason" ]; then
            case $state in
            *DOWN* | *DRAIN*) say "$line; but the node is $state" ;;
            *) scontrol update NodeName="$node" State=DRAIN Reason="$text" && say "drained: $line" ;;
            esac
        elif ! ours; then
            say "$line; but the node's reason is another's: $reason"
        fi
    elif [ "$verdict" = pass ]; then
        if ours && [ "$RESUME" = yes ]; then
            case $state in
            *DRAIN*) scontrol update NodeName="$node" State=RESUME && say "resumed: $line" ;;
            esac
        fi
        # What a prolog found wrong after we began to look is not judged yet.
        [ -n "$(find "$STATE_DIR/drained" -newer "$STATE_DIR/began" 2>/dev/null)" ] ||
            rm -f "$STATE_DIR/drained"
    else
        say "$line"
    fi
}

case $caller in
prolog) around_job "$MAX_AGE" "$PROLOG_BUDGET_S" ;;
epilog) around_job "$EPILOG_MAX_AGE" "$EPILOG_BUDGET_S" ;;
healthcheck) health ;;
esac
exit 0
