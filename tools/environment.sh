#!/bin/sh
# Make the virtual environment for the Makefile's targets; takes a second when it is up to date.
#
# Usage: tools/environment.sh run|dev|corpus
#   run      the package and torch
#   dev      the same, and the requirements of the tests and the linters
#   corpus   the same, and the model libraries of tests/corpus where they fit this torch
# Environment:
#   PYTHON        the interpreter; default: the first of python3, python3.14 ... 3.10 that is new enough
#   VENV          where the environment goes; default: .venv
#   TORCH         torch's requirement; default: torch==2.13.0; empty: use the one that is there
#   TORCH_INDEX   an extra package index for torch; default: its CPU index where there is no GPU
#   CPU_INDEX     that CPU index, or a mirror of it
set -eu
cd "$(dirname "$0")/.."

what=${1:?usage: tools/environment.sh run|dev|corpus}
venv=${VENV:-.venv}
torch=${TORCH-torch==2.13.0}
cpu_index=${CPU_INDEX:-https://download.pytorch.org/whl/cpu}
mark=$venv/made-by-gpu-env-validator # only an environment with this file may be replaced
log=$venv/install.log

say() { echo "environment: $*" >&2; }
die() {
    say "$*"
    exit 2
}

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; }
version() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])'; }

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        command -v "$PYTHON" >/dev/null || die "PYTHON=$PYTHON is not there"
        new_enough "$PYTHON" || die "Python 3.10 or newer is needed; $("$PYTHON" --version 2>&1) is PYTHON=$PYTHON"
        echo "$PYTHON"
        return
    fi
    for name in python3 python3.14 python3.13 python3.12 python3.11 python3.10; do
        if new_enough "$name"; then
            echo "$name"
            return
        fi
    done
    command -v python3 >/dev/null || die "Python is missing: apt-get install python3 python3-venv"
    die "Python 3.10 or newer is needed; $(python3 --version 2>&1) is here. Install one and set PYTHON=its path"
}

make_venv() {
    "$1" -c 'import ensurepip, venv' 2>/dev/null ||
        die "$1 cannot make a virtual environment: apt-get install python$(version "$1")-venv"
    mkdir -p "$venv" 2>/dev/null || die "$venv cannot be written here; set VENV=some other folder"
    : >"$mark"
    "$1" -m venv "$venv" >"$log" 2>&1 || explain "$venv cannot be made"
}

# Exits with one line that says why pip failed, and where its log is.
explain() {
    if grep -qs 'No space left on device' "$log"; then
        reason="no space left on the disk of $venv or of ${TMPDIR:-/tmp}"
    elif grep -qsE 'NewConnectionError|NameResolutionError|ConnectTimeout|ReadTimeout|ProxyError|SSLError' "$log"; then
        reason="the package index cannot be reached; set PIP_INDEX_URL or PIP_PROXY if you have a mirror or a proxy"
    else
        reason=$(sed -n 's/^.*ERROR: //p' "$log" | tail -1)
    fi
    die "$1: ${reason:-unknown reason} (log: $log)"
}

pip() { "$venv/bin/python" -m pip --disable-pip-version-check --no-input --log "$log" "$@"; }
install() {
    rm -f "$log"
    pip install --quiet "$@" 2>/dev/null >&2 || explain "cannot install $*"
}

# Prints the GPU vendors, by the package's own detection: the validator finds the same ones.
gpus() { "$venv/bin/python" -c 'from probes.node.hardware import detect; print(*detect().vendors)'; }

torch_here() { "$venv/bin/python" -c 'import importlib.metadata as m; print(m.version("torch"))' 2>/dev/null || true; }

install_torch() {
    found=$(gpus)
    have=$(torch_here)
    is_old= # the environment is older than the GPU, or another node of this file system made it
    [ -z "$found" ] || [ "$have" = "${have%+cpu}" ] || is_old=yes
    if [ -z "$is_old" ] && [ "torch==${have%%+*}" = "$torch" ]; then
        install 'numpy>=1.23'
        return
    fi
    need_gb=10
    index=${TORCH_INDEX:-}
    if [ -z "$found" ]; then
        need_gb=2
        [ -n "$index" ] || index=$(reachable_cpu_index)
    fi
    free_gb=$(($(df -Pk "$venv" | awk 'NR == 2 { print $4 }') / 1048576))
    [ "$free_gb" -ge "$need_gb" ] ||
        die "torch needs about $need_gb GB in $venv; $free_gb GB are free. Set VENV=a folder on another disk"
    if [ -n "$is_old" ]; then
        say "replacing torch $have: this node has a GPU ($found)"
        pip uninstall --quiet --yes torch >/dev/null 2>&1 || explain "cannot remove torch $have"
    fi
    say "installing $torch; this can take minutes"
    install "$torch" 'numpy>=1.23' ${index:+--extra-index-url "$index"}
}

# Installs the model libraries beside the torch that is there, which pip must leave as it is.
install_corpus() {
    have=$(torch_here)
    case $have in
    2.13.0 | 2.13.0+*) ;;
    *)
        say "the model libraries are pinned to torch 2.13.0, torch ${have:-none} is here: their programs are left out"
        return
        ;;
    esac
    index=${TORCH_INDEX:-}
    [ -n "$index" ] || [ -n "$(gpus)" ] || index=$(reachable_cpu_index)
    install --group corpus "torch==$have" ${index:+--extra-index-url "$index"}
}

# Tries the index for 4 seconds: behind a firewall that drops packets, pip would wait for minutes.
reachable_cpu_index() {
    if timeout 4 "$venv/bin/python" -c \
        'import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=3)' \
        "$cpu_index/torch/" 2>/dev/null; then
        echo "$cpu_index"
    else
        say "no GPU here, but $cpu_index cannot be reached: taking the usual index"
    fi
}

# Prints what the environment depends on; the stamps hold it.
state() {
    echo "$(cksum <pyproject.toml) $torch ${TORCH_INDEX:-} $(pwd) $(version "$venv/bin/python") gpus: $(gpus)"
}

works() { "$venv/bin/python" -m pip --version >/dev/null 2>&1; }

if [ -e "$venv" ] && { ! works || [ -n "${PYTHON:-}" ]; }; then
    python=$(find_python)
    if ! works || [ "$(version "$venv/bin/python")" != "$(version "$python")" ]; then
        [ -e "$mark" ] || die "$venv is not an environment of Python $(version "$python") that works; remove it or set VENV=another folder"
        rm -rf "$venv"
    fi
fi
if [ ! -e "$venv" ]; then
    python=$(find_python)
    say "making $venv with $("$python" --version)"
    make_venv "$python"
fi

stamp=$venv/installed-$what
if [ -e "$stamp" ] && [ "$(cat "$stamp")" = "$(state 2>/dev/null)" ]; then
    exit 0
fi
say "installing the package"
install --editable .
[ -z "$torch" ] || install_torch
if [ "$what" != run ]; then
    say "installing what the tests and the linters need"
    install 'pip>=25.1' # the first that knows dependency groups
    install --group test --group lint
    # A compiler of CUDA without CUDA: the tests that compile kernels are skipped by name without it.
    pip install --quiet --group kernels >/dev/null 2>&1 ||
        say "NVRTC's wheel cannot be installed: no test compiles our kernels"
    state >"$venv/installed-run" # dev includes run
fi
if [ "$what" = corpus ]; then
    say "installing the model libraries of tests/corpus"
    install_corpus
    state >"$venv/installed-dev" # corpus includes dev
fi
state >"$stamp"
