"""The check of torch's defaults: what a plug-in or sitecustomize has set before any probe."""

from probes.contract import Finding, require
from probes.torch_version.observation import Observation


def defaults(observation: Observation) -> Finding:
    """Default dtype, device, algorithms and autocast are torch's own when it is imported.

    A warning: a job may want them so. Every probe runs with torch's own all the same.
    """
    found = [f"{call} is {value}" for call, value in sorted(observation.changed_defaults.items())]
    return require(
        "torch_version.defaults",
        not found,
        "; ".join(found) or "torch's own",
        "torch's own",
        message=f"changed while torch was imported: {'; '.join(found)}",
        hint="confirm with `python -c 'import torch; print(torch.get_default_dtype())'`; search "
        "sitecustomize.py, usercustomize.py, *.pth files and torch's plug-ins (entry points "
        "torch.backends) for the call; the probes were run with torch's own defaults",
        action="fix_image",
        otherwise="warn",
    )
