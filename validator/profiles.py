"""What a profile holds beyond the cheaper ones, told from the catalogue: nothing, for some, yet."""

from collections.abc import Sequence

from probes.catalog import CATALOG
from probes.contract import PROFILES, ProbeSpec, Profile


def empty_profiles(catalog: Sequence[ProbeSpec] = CATALOG) -> tuple[Profile, ...]:
    """The profiles that have no probe of their own, cheapest first."""
    own = {spec.profile for spec in catalog}
    return tuple(profile for profile in PROFILES if profile not in own)


def note(profile: Profile, catalog: Sequence[ProbeSpec] = CATALOG) -> str:
    """What is to be known of a profile without probes of its own; empty for any other."""
    if profile not in empty_profiles(catalog):
        return ""
    below = PROFILES[: PROFILES.index(profile)]
    own = [spec.profile for spec in catalog if spec.profile in below]
    if not own:
        return f"profile {profile} holds no probe yet"
    dearest = max(own, key=PROFILES.index)
    return f"profile {profile} holds nothing more than {dearest} yet"


def notes(catalog: Sequence[ProbeSpec] = CATALOG) -> str:
    """The notes of all profiles in one line; empty when each has probes of its own."""
    return "; ".join(note(profile, catalog) for profile in empty_profiles(catalog))


def same_above(spec: ProbeSpec, catalog: Sequence[ProbeSpec] = CATALOG) -> str:
    """The profiles above a probe's own that hold nothing more, for the text of one probe."""
    above = PROFILES[PROFILES.index(spec.profile) + 1 :]
    return " and ".join(profile for profile in above if profile in empty_profiles(catalog))
