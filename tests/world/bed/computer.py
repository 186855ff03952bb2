"""The server as a computer: the image of a machine that QEMU boots, with a kernel and a disk of its own."""

from pathlib import Path
from tempfile import mkdtemp

from bed import docker
from bed.content import digest_of_text
from bed.process import making, run
from bed.settings import CACHE, PREFIX

_ENTRANCE = CACHE / "entrance"
_MAKE_DISK = "/usr/local/lib/world/make-disk"


def entrance() -> tuple[Path, Path]:
    """Both ends of the way by which the bed's commands come in: what the machine has, and what QEMU's side has."""
    machine, outside = _ENTRANCE / "machine", _ENTRANCE / "outside"
    if not _ENTRANCE.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        draft = Path(mkdtemp(prefix="entrance-", dir=CACHE))
        for end in (machine, outside):
            (draft / end.name).mkdir()
        _make_key(draft / "machine" / "host")
        _make_key(draft / "outside" / "key")
        (draft / "outside" / "key.pub").rename(draft / "machine" / "authorized_keys")
        host = (draft / "machine" / "host.pub").read_text()
        (draft / "outside" / "known_hosts").write_text(f"machine {host}")
        draft.replace(_ENTRANCE)
    return machine, outside


def _make_key(file: Path) -> None:
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "entrance", "-f", file)


def image(root: str, qemu: str) -> str:
    """The reference of `qemu` with a disk that was made of the image `root`."""
    reference = f"{PREFIX}/computer:{digest_of_text(root, qemu)[:16]}"
    if not docker.image_exists(reference):
        with making("the disk of the server", "making", "made"):
            _make(root, qemu, reference)
    return reference


def _make(root: str, qemu: str, reference: str) -> None:
    source = run("docker", "create", root).strip()
    maker = run("docker", "create", "--interactive", "--volume", "/scratch", qemu, _MAKE_DISK, "/scratch").strip()
    try:
        run(
            "bash",
            "-o",
            "pipefail",
            "-c",
            'docker export "$0" | docker start --attach --interactive "$1"',
            source,
            maker,
        )
        run("docker", "commit", "--change", 'CMD ["/usr/local/lib/world/power-on"]', maker, reference)
    finally:
        for container in (source, maker):
            docker.remove_container(container)
