#!/bin/sh
# Install the validator next to the Python and torch of a base image, without changing the base.
#
# Usage, each in its own stage of the Dockerfile:
#   container.sh torch REQUIREMENT [INDEX]   install torch, only where the base has none
#   container.sh libraries PROJECT FOLDER    install the package's dependencies into FOLDER
#   container.sh package PROJECT FOLDER      install the package into FOLDER
#   container.sh command ROOT                write ROOT/bin/gpu-validator, for ROOT/app and ROOT/lib
#   container.sh verify ROOT                 fail if the image's user cannot run it
# Environment:
#   BASE_PYTHON   the interpreter to judge; default: the first one that has torch, else the first
set -eu

say() { echo "container.sh: $*" >&2; }
die() {
    say "$*"
    exit 2
}

has_torch() {
    "$1" -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("torch") is None)' 2>/dev/null
}

# Prints the interpreters on PATH, then those in the usual folders of conda and virtual environments.
interpreters() {
    for name in python3 python; do
        command -v "$name" || true
    done
    for path in /opt/conda/bin/python /opt/venv/bin/python /app/.venv/bin/python /venv/bin/python \
        /opt/*/bin/python3 /usr/local/bin/python3 /usr/bin/python3; do
        if [ -x "$path" ]; then echo "$path"; fi
    done
}

base_python() {
    python=${BASE_PYTHON:-}
    if [ -z "$python" ]; then
        for candidate in $(interpreters); do
            if has_torch "$candidate"; then
                python=$candidate
                break
            fi
        done
    fi
    [ -n "$python" ] || python=$(interpreters | head -1)
    [ -n "$python" ] || die "the base image has no Python; set BASE_PYTHON to its path"
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
        die "Python 3.10 or newer is needed; $python of the base image is $("$python" --version 2>&1)"
    # The absolute path, with links not resolved: a link into an environment means that environment.
    command -v "$python"
}

# Runs the base's pip, or one from its ensurepip, with the base's interpreter, which the wheels must fit.
pip() {
    # Options as variables, since an old pip ignores unknown variables. A base may pin its packages
    # (PIP_CONSTRAINT) or redirect installs: neither is meant for our packages.
    unset PIP_CONSTRAINT PIP_TARGET PIP_PREFIX PIP_USER PIP_REQUIRE_VIRTUALENV
    export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore
    if ! "$python" -m pip --version >/dev/null 2>&1; then
        trap 'rm -rf /tmp/pip' EXIT
        "$python" -m venv /tmp/pip ||
            die "$python has no pip and cannot make one; install pip or python3-venv in the base image"
        PYTHONPATH=$(echo /tmp/pip/lib/python*/site-packages)${PYTHONPATH:+:$PYTHONPATH}
        export PYTHONPATH
    fi
    "$python" -m pip "$@"
}

# With --target pip ignores the base's packages, so the folder is complete whatever the base has.
install_into() {
    folder=$1
    shift
    pip install --target "$folder" "$@"
}

# Whether an address in the text has a user, a password or a token before its host.
names_a_user() {
    case $1 in *://*) authority=${1#*://} ;; *) return 1 ;; esac
    case ${authority%%/*} in *@*) ;; *) return 1 ;; esac
}

torch() {
    for argument in "$@"; do
        if names_a_user "$argument"; then
            die "TORCH or TORCH_INDEX holds a user or a token, which \`docker history\` would show" \
                "to everybody who has the image; take an index without one, or a base that has torch"
        fi
    done
    python=$(base_python)
    if has_torch "$python"; then
        say "$python has torch: nothing to install"
    elif [ -z "$1" ]; then
        die "no Python of the base image has torch; give TORCH, or BASE_PYTHON=its interpreter"
    else
        pip install "$1" 'numpy>=1.23' ${2:+--extra-index-url "$2"}
    fi
}

# Dependencies change less often than the package: without its code this layer stays in the cache.
libraries() {
    python=$(base_python)
    install_into "$2" --only-binary=:all: "$1"
    rm -rf "${2:?}/bin" "$2"/gpu_env_validator-*.dist-info
}

package() {
    python=$(base_python)
    install_into "$2" --no-deps "$1"
}

command_line() {
    python=$(base_python)
    mkdir -p "$1/bin"
    cat >"$1/bin/gpu-validator" <<END
#!/bin/sh
# The interpreter, torch and NumPy are the base image's; what we need besides comes from here.
export PYTHONPATH="$1/app:$1/lib\${PYTHONPATH:+:\$PYTHONPATH}"
exec "$python" "$1/app/bin/gpu-validator" "\$@"
END
    chmod 755 "$1/bin/gpu-validator"
    echo "$python" >"$1/python"
}

verify() {
    python=$(cat "$1/python")
    "$python" -c '' || die "user $(id -u) of the image cannot run $python; build with USER_ID=0"
    has_torch "$python" || die "user $(id -u) of the image cannot read the torch of $python; build with USER_ID=0"
    "$1/bin/gpu-validator" --version
}

action=${1:?which action}
shift
case $action in
torch) torch "${1:-}" "${2:-}" ;;
libraries | package | verify) "$action" "$@" ;;
command) command_line "$@" ;;
*) die "unknown action $action" ;;
esac
