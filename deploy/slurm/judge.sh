# shellcheck shell=sh disable=SC2034,SC2154 # its variables are common to all these files
# What a prolog, an epilog and a health check judge. Runs no Slurm command: a prolog's controller
# waits for it.

# Judge the devices that the arguments name. Sets verdict (pass, fail, error), line, its text, and
# source: whether the daemon answered, or why not.
judge() { # max-age budget [option...]
    age=$1
    budget=$2
    shift 2
    source=''
    if [ -n "$age" ]; then
        set -- --max-age "$age" --server "$SERVER" "$@"
        if [ "$RUN" = no ]; then set -- --no-run "$@"; fi
    elif [ "$RUN" = no ]; then
        verdict=error line="error: no daemon is asked, and nothing may run"
        want
        return
    fi
    # A daemon that hangs costs 2 s, starting and ending 2 s more; then the run still tells how far
    # it came. timeout(1) is for one that does not end itself.
    limit=$((budget > 6 ? budget - 5 : 1))
    # ASCII, for logs and reasons. The line after it ends the wait for what a worker that cannot be
    # killed still holds; and no output is too long.
    output=$({
        PYTHONIOENCODING=ascii timeout -k 1 "$((budget - 1))" "$GPU_VALIDATOR" check --quiet \
            --profile "$PROFILE" --timeout "$limit" "$@" 2>&1 9>&-
        printf '\nend of %s\n' "$$"
    } | (
        # shellcheck disable=SC3045 # dash and busybox have it
        ulimit -v 262144 # KiB
        sed -n -e "/^end of $$\$/q" -e p
    ) 2>/dev/null | tail -c 65536)
    source=$(printf '%s\n' "$output" | sed -n 's/^gpu-validator: //p' | head -n 1)
    # The verdict, a mark before it and how long it took after it. A wrapper may have the last word.
    line=$(printf '%s\n' "$output" |
        sed -n -E 's/^[^ ]{1,4} ((pass|warn|fail|error): .*)$/\1/p' | tail -n 1 |
        sed -E 's/ - [0-9.]+ s$//')
    case $line in
    pass:* | warn:*) verdict=pass ;;
    fail:*) verdict=fail ;;
    error:*) verdict=error ;;
    *)
        verdict=error
        line="error: no verdict from $GPU_VALIDATOR within $budget s: $(printf '%s\n' "$output" | grep . | tail -n 1 | cut -c -300)"
        ;;
    esac
    want
}

# Sets wanted: what is to follow from the verdict.
want() {
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
    for gpu in $(printf '%s\n' "$gpus" | tr , ' '); do
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
    # What the whole node promises is not the job's, whose GPUs are named.
    export GPU_VALIDATOR_EXPECT__GPUS=auto
    unset GPU_VALIDATOR_EXPECT__MIG_INSTANCES
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
    if [ "$caller" = epilog ] && [ "$EPILOG_ON_FAIL" = note ]; then
        RUN=$EPILOG_RUN
        # Without a daemon there is nobody to ask.
        if [ "$RUN" = no ] && [ -z "$1" ]; then exit 0; fi
    fi
    judge_job "$@"
    say "$line${source:+ ($source)}"
    if [ "$caller" = epilog ] && [ "$EPILOG_ON_FAIL" = note ]; then
        # The next health check believes nothing that is older.
        if [ "$wanted" = drain ] && state_folder; then write_whole noted "$line"; fi
        exit 0
    fi
    [ "$wanted" = drain ] || exit 0
    # Slurm will give "Prolog error" as the reason; by this the health check knows it for ours.
    if state_folder; then write_whole drained "$line"; fi
    exit 77
}
