"""The root file systems that images start from: releases of Debian or the host's own, by mmdebstrap.

A program built on the host runs in the host's own release and in later ones.
"""

import platform
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bed import docker
from bed.content import digest_of_text
from bed.errors import WorldError
from bed.process import DIES_WITH_US, making, run
from bed.scratch import scratch
from bed.settings import PREFIX

# A mirror that is kept as it was on some day has a release in development with the validity of that day.
_APT = 'Acquire::Check-Valid-Until "false";'
# Nothing reads manuals in a machine, and nothing there must survive a power cut of the builder.
_DPKG = (
    "force-unsafe-io",
    "path-exclude=/usr/share/doc/*",
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/locale/*",
)
KEYRINGS = Path("/usr/share/keyrings")
_DEBIAN = "http://deb.debian.org/debian"


@dataclass(frozen=True)
class Source:
    url: str
    suite: str
    components: tuple[str, ...]

    def line(self) -> str:
        return f"deb {self.url} {self.suite} {' '.join(self.components)}"


def release() -> str:
    codename = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    if not codename:
        raise WorldError("/etc/os-release has no VERSION_CODENAME: the world builds on releases of Debian and Ubuntu")
    return codename


def image(suite: str) -> str:
    """The reference of the release's imported root file system, made now if it is absent."""
    reference = _reference(suite)
    if not docker.image_exists(reference):
        with making(f"{suite} from {_sources(suite)[0].url}"):
            _bootstrap(reference, suite)
    return reference


def is_made(suite: str) -> bool:
    return docker.image_exists(_reference(suite))


def _reference(suite: str) -> str:
    lines = (source.line() for source in _sources(suite))
    return f"{PREFIX}/debian:{digest_of_text(*lines, *_DPKG, _APT)[:16]}"


def _sources(suite: str) -> list[Source]:
    """Where the release's packages come from, the release itself first: the host's own mirrors, if they have it."""
    own = _own_sources()
    if suite == release():
        return own
    if platform.freedesktop_os_release().get("ID") != "debian":
        return [Source(_DEBIAN, suite, ("main",))]
    return [Source(source.url, source.suite.replace(release(), suite, 1), ("main",)) for source in own]


@cache
def _own_sources() -> list[Source]:
    """The host's package sources for its own release."""
    codename = release()
    shown = run(
        "apt-get", "indextargets", "--format", "$(REPO_URI)|$(RELEASE)|$(COMPONENT)", "Created-By: Packages",
    )  # fmt: skip
    components: dict[tuple[str, str], list[str]] = {}
    for url, suite, component in (line.split("|") for line in shown.splitlines()):
        if suite == codename or suite.startswith(f"{codename}-"):
            components.setdefault((url, suite), []).append(component)
    if platform.freedesktop_os_release().get("ID") == "ubuntu":
        components = {key: sorted({*value, "universe"}) for key, value in components.items()}
    sources = [Source(url, suite, tuple(dict.fromkeys(names))) for (url, suite), names in components.items()]
    sources.sort(key=lambda source: (source.suite != codename, source.suite))
    if not sources or sources[0].suite != codename:
        raise WorldError(f"apt has no package source for {codename}; `apt-get indextargets` lists what it has")
    return sources


def _bootstrap(reference: str, suite: str) -> None:
    with scratch("debian") as place:
        archive = place / "root.tar"
        run(
            *DIES_WITH_US, "mmdebstrap", "--mode=root", "--variant=minbase", "--include=ca-certificates",
            f"--keyring={_keyring(suite)}", f"--aptopt={_APT}", *(f"--dpkgopt={line}" for line in _DPKG),
            suite, archive, *(source.line() for source in _sources(suite)),
            env={"TMPDIR": str(place)},
        )  # fmt: skip
        run("docker", "import", archive, reference)


def _keyring(suite: str) -> Path:
    """The keys of those who publish the release: the host's distribution or, for another release, Debian."""
    distribution = platform.freedesktop_os_release().get("ID", "debian") if suite == release() else "debian"
    return KEYRINGS / f"{distribution}-archive-keyring.gpg"
