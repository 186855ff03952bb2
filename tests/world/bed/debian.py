"""The root file systems that images start from: releases of Debian or the host's own, by debootstrap.

A program built on the host runs in the host's own release and in later ones.
"""

import platform
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

from bed import docker
from bed.content import digest_of_text
from bed.errors import WorldError
from bed.process import DIES_WITH_US, run, say
from bed.settings import CACHE, PREFIX

# A mirror that is kept as it was on some day has a release in development with the validity of that day.
_APT = 'Acquire::Check-Valid-Until "false";\n'
# Nothing reads manuals in a machine, and nothing there must survive a power cut of the builder.
_DPKG = """\
force-unsafe-io
path-exclude=/usr/share/doc/*
path-exclude=/usr/share/man/*
path-exclude=/usr/share/locale/*
"""
_SCRIPTS = Path("/usr/share/debootstrap/scripts")
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
    sources = _sources(suite)
    lines = "\n".join(source.line() for source in sources) + "\n"
    reference = f"{PREFIX}/debian:{digest_of_text(lines, _DPKG, _APT)[:16]}"
    if not docker.image_exists(reference):
        _bootstrap(reference, sources[0], lines)
    return reference


def _sources(suite: str) -> list[Source]:
    """Where the release's packages come from, the release itself first: the host's own mirrors, if they have it."""
    own = _own_sources()
    if suite == release():
        return own
    if platform.freedesktop_os_release().get("ID") != "debian":
        return [Source(_DEBIAN, suite, ("main",))]
    return [Source(source.url, source.suite.replace(release(), suite, 1), ("main",)) for source in own]


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


def _bootstrap(reference: str, source: Source, lines: str) -> None:
    say(f"bootstrapping {source.suite} from {source.url}")
    scratch = CACHE / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    root = Path(mkdtemp(prefix="debian-", dir=scratch))
    try:
        run(
            *DIES_WITH_US, "debootstrap", "--variant=minbase", "--include=ca-certificates",
            f"--components={','.join(source.components)}", source.suite, root, source.url, _script(source.suite),
        )  # fmt: skip
        (root / "etc/apt/sources.list").write_text(lines)
        (root / "etc/apt/apt.conf.d/world").write_text(_APT)
        (root / "etc/dpkg/dpkg.cfg.d/world").write_text(_DPKG)
        for leftover in (
            "var/cache/apt/archives",
            "var/lib/apt/lists",
            "usr/share/doc",
            "usr/share/man",
            "usr/share/locale",
        ):
            shutil.rmtree(root / leftover, ignore_errors=True)
        (root / "var/cache/apt/archives/partial").mkdir(parents=True)
        (root / "var/lib/apt/lists/partial").mkdir(parents=True)
        _import(root, reference)
    finally:
        remove_tree(root)
    say(f"bootstrapped {source.suite}")


def _script(suite: str) -> Path:
    """How debootstrap makes it; a release that it does not know yet is made as the one in development."""
    known = _SCRIPTS / suite
    return known if known.exists() else _SCRIPTS / "sid"


def _import(root: Path, reference: str) -> None:
    with subprocess.Popen(["tar", "--numeric-owner", "-C", root, "-c", "."], stdout=subprocess.PIPE) as archive:
        imported = subprocess.run(
            ["docker", "import", "-", reference], stdin=archive.stdout, capture_output=True, check=False
        )
    if archive.returncode or imported.returncode:
        raise WorldError(
            f"the bootstrapped system could not be imported: {imported.stderr.decode(errors='replace').strip()}"
        )


def remove_tree(root: Path) -> None:
    """Remove a half or wholly bootstrapped tree; a killed debootstrap leaves file systems mounted in it."""
    mounted = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for mount in sorted((point for point in mounted if point.startswith(f"{root}/")), reverse=True):
        run("umount", "--lazy", mount)
    shutil.rmtree(root, ignore_errors=True)
