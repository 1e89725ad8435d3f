# shellcheck shell=sh disable=SC2034,SC2154 # its variables are common to all these files
# How many GPUs this node promises, by Slurm's own word.

# Say what this node promises, where nothing else does.
promise_gpus() {
    case $EXPECT_GPUS in
    gres)
        # Of a slurmd that sees but some of them nothing is known.
        hidden=${CUDA_VISIBLE_DEVICES+x}${ROCR_VISIBLE_DEVICES+x}${HIP_VISIBLE_DEVICES+x}
        if [ -n "${GPU_VALIDATOR_EXPECT__GPUS:-}$hidden" ]; then return 0; fi
        promised=$(count_gres)
        ;;
    *) promised=$EXPECT_GPUS ;;
    esac
    if is_number "$promised"; then export GPU_VALIDATOR_EXPECT__GPUS="$promised"; fi
}

# The GPUs of this node by what slurmctld has and gres.conf lists; nothing where the two differ, where
# a line is not understood, and where GPUs are cut into instances.
count_gres() {
    if ls -d "${NVIDIA_GPUS%/gpus}"/capabilities/gpu*/mig/gi* >/dev/null 2>&1; then return 0; fi
    if [ -n "$SLURM_CONF" ]; then
        set -- "${SLURM_CONF%/*}"
    else
        set -- /etc/slurm /run/slurm/conf /etc/slurm-llnl /usr/local/etc /opt/slurm/etc
    fi
    counted=''
    for folder in "$@"; do
        [ -e "$folder/slurm.conf" ] || continue
        one=$(node="$node" gres="$gres" folder="$folder" pattern="$GPU_FILES" \
            timeout 5 awk -f "$here/gres.awk" </dev/null 2>/dev/null)
        is_number "$one" || return 0
        [ "${counted:-$one}" = "$one" ] || return 0
        counted=$one
    done
    echo "$counted"
}
