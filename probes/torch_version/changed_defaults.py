"""The check of torch's defaults: what a plug-in or sitecustomize changed before any probe ran."""

from probes.contract import Finding, require
from probes.torch_version.observation import Observation


def defaults(observation: Observation) -> Finding:
    """Default dtype, device, algorithms and autocast are torch's own after the import.

    A change is a warning: a job may want it. The probes set torch's own defaults in any case.
    """
    changes = [f"{call} is {value}" for call, value in sorted(observation.changed_defaults.items())]
    return require(
        "torch_version.defaults",
        not changes,
        "; ".join(changes) or "torch's own",
        "torch's own",
        message=f"changed while torch was imported: {'; '.join(changes)}",
        hint="confirm with `python -c 'import torch; print(torch.get_default_dtype())'`; search "
        "sitecustomize.py, usercustomize.py, *.pth files and torch's plug-ins (entry points "
        "torch.backends) for the call; the probes were run with torch's own defaults",
        action="fix_image",
        otherwise="warn",
    )
