#!/bin/sh
# Judge the PyTorch of an image before it is pushed. For any CI that has a container engine.
#
# Usage: validate-image.sh IMAGE [REPORT.xml]
# Environment:
#   VALIDATOR   a checkout of gpu-env-validator; default: the one that this script lies in
#   GPUS        GPUs that this runner promises; default 0: the CPU is computed on, and what needs a
#               GPU is skipped. Checks that the build fits a GPU need a runner with one.
#   ENGINE      docker (default) or podman
# Exit code: 0 sound, 1 broken, 2 could not tell. Push on 0 alone.
set -u

image=${1:?usage: validate-image.sh IMAGE [REPORT.xml]}
report=${2:-}
validator=${VALIDATOR:-${0%/*}/../..}
gpus=${GPUS:-0}
engine=${ENGINE:-docker}
tag=gpu-validator-ci:$$

# The validator goes beside the image's own Python and torch, and changes the version of nothing. TORCH=
# means: none is installed where the image has none.
"$engine" build --quiet --tag "$tag" --build-arg BASE_IMAGE="$image" --build-arg TORCH= "$validator" >/dev/null || {
    echo "validate-image: $image cannot be built upon" >&2
    exit 2
}

set -- --rm --network none --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges \
    --env GPU_VALIDATOR_EXPECT__GPUS="$gpus"
if [ "$gpus" -gt 0 ]; then set -- "$@" --gpus all; fi

# The report is stdout, so that nothing has to be mounted; a person reads the text.
if [ -n "$report" ]; then
    "$engine" run "$@" "$tag" check --output junit >"$report"
else
    "$engine" run "$@" "$tag" check
fi
verdict=$?
"$engine" image rm "$tag" >/dev/null

# 125 to 127 are the engine's own, and tell nothing of the image.
[ "$verdict" -le 1 ] || verdict=2
exit "$verdict"
