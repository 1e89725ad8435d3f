#!/bin/bash
# node-problem-detector plugin: what does this node's gpu-validator say? Runs no probe.
#
#   check_gpu_validator.sh [HOST [PORT]]
#
# Exit 0: the node is ready, 1: a GPU environment is broken, 2: it could not be told. One line of
# at most 80 characters says why. Done within 4 s: node-problem-detector kills after 5 s.
# Bash and coreutils alone, since the image of node-problem-detector holds no curl.
set -u
export LC_ALL=C # node-problem-detector cuts after 80 bytes, and in the middle of a letter
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
host=${1:-gpu-validator.gpu-validator.svc}
port=${2:-8790}

say() { # CODE TEXT
    local text=${2//…/...}
    text=${text//[^[:print:]]/?}
    printf '%s\n' "${text:0:80}"
    exit "$1"
}

ask() { # its own process, so that `timeout` bounds look-up, connection and answer alike
    # shellcheck disable=SC2016 # expanded by the inner bash
    timeout -k 0.5 3 bash -c '
        exec 3<>"/dev/tcp/$1/$2" || exit 3
        printf "GET /readyz HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" "$1" >&3
        head -c 4096 <&3
    ' ask "$host" "$port" 2>/dev/null
}

answer=$(ask)
case $? in
0) ;;
124 | 137) say 2 "gpu-validator gave no answer in 3 s" ;;
*) say 2 "gpu-validator cannot be reached at $host:$port" ;;
esac

answer=${answer//$'\r'/}
status=${answer%%$'\n'*}   # HTTP/1.1 200 OK
status=${status#HTTP/1.? } # 200 OK
reason=${answer#*$'\n\n'}
reason=${reason%%$'\n'*}
case ${status%% *} in
200) say 0 "$reason" ;;
503) ;;
*) say 2 "gpu-validator gave no verdict: ${status:-empty answer}" ;;
esac
case $reason in
fail:*) say 1 "$reason" ;;
*) say 2 "$reason" ;; # error, stale, or no result yet: nothing to drain a node for
esac
