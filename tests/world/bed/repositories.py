"""The repositories of *internet*: a directory under `repositories/` becomes a bare repository.

Authors and dates are fixed, so the same files give the same commits everywhere.
"""

import configparser
import json
from collections.abc import Iterator
from pathlib import Path

from bed.process import run
from bed.settings import BASE_IMAGE, REPOSITORIES

_PERSON = "Sarah <sarah@example.test>"
_FEATURES: dict[str, dict[str, str]] = {
    "ghcr.io/devcontainers/features/sshd:1": {},
    "ghcr.io/tailscale/codespace/tailscale": {},
}
_PAGES = 200
_PRIVATE = {"acme/vault", "acme/parts", "acme/gears", "acme/sealed", "acme/den", "other/engine"}
_MANY = 50

Tree = dict[str, tuple[int, bytes]]  # path -> mode, content (of a submodule: its commit)


def build_all(target: Path) -> None:
    """Write `<owner>/<name>.git` below `target` for every repository."""
    heads: dict[str, str] = {}
    waiting = dict(_trees())
    while waiting:
        for full_name, tree in list(waiting.items()):
            submodules = _submodules(tree)
            if all(repository in heads for repository in submodules.values()):
                links = {path: (0o160000, heads[repository].encode()) for path, repository in submodules.items()}
                heads[full_name] = _build(target / f"{full_name}.git", {**tree, **links})
                if full_name in _PRIVATE:
                    (target / f"{full_name}.git" / "github-private").touch()
                del waiting[full_name]


def _trees() -> Iterator[tuple[str, Tree]]:
    for directory in sorted(REPOSITORIES.glob("*/*")):
        files = {str(file.relative_to(directory)): file for file in sorted(directory.rglob("*")) if file.is_file()}
        tree = {
            name: (0o100755 if file.stat().st_mode & 0o100 else 0o100644, file.read_bytes())
            for name, file in files.items()
        }
        full_name = f"{directory.parent.name}/{directory.name}"
        if full_name == "acme/site":
            tree |= {
                f"pages/{page:03}.html": (0o100644, f"<p>page {page}</p>\n".encode() * 20) for page in range(_PAGES)
            }
        yield full_name, tree
    configuration = json.dumps({"image": BASE_IMAGE, "features": _FEATURES}, indent=2).encode() + b"\n"
    for number in range(1, _MANY + 1):
        name = f"many/r{number:02}"
        yield (
            name,
            {
                "README.md": (0o100644, f"# {name}\n".encode()),
                ".devcontainer/devcontainer.json": (0o100644, configuration),
            },
        )


def _submodules(tree: Tree) -> dict[str, str]:
    """Path -> owner/name of each submodule."""
    parser = configparser.ConfigParser()
    parser.read_string(tree.get(".gitmodules", (0, b""))[1].decode().replace("\t", ""))
    return {parser[section]["path"]: _full_name(parser[section]["url"]) for section in parser.sections()}


def _full_name(url: str) -> str:
    return url.removeprefix("https://github.com/").removeprefix("git@github.com:").removesuffix(".git")


def _build(bare: Path, tree: Tree) -> str:
    """Two commits and a tag; the commit at the tip is returned."""
    readme = {name: entry for name, entry in tree.items() if name == "README.md"}
    stream = b"".join(
        [
            b"feature done\n",
            _commit(1, "Say what this is", 1_700_000_000, readme),
            _commit(2, "Add everything else", 1_700_086_400, tree),
            f"tag v1.0\nfrom :2\ntagger {_PERSON} 1700172800 +0000\n".encode(),
            _data(b"First release\n"),
            b"done\n",
        ]
    )
    run("git", "init", "--quiet", "--bare", "--template=", "--initial-branch=main", bare)
    run("git", "-C", bare, "fast-import", "--quiet", stdin=stream)
    run("git", "-C", bare, "config", "http.receivepack", "true")
    run("git", "-C", bare, "update-server-info")
    return run("git", "-C", bare, "rev-parse", "main").strip()


def _commit(mark: int, message: str, time: int, tree: Tree) -> bytes:
    parts = [
        f"commit refs/heads/main\nmark :{mark}\n".encode(),
        f"author {_PERSON} {time} +0000\ncommitter {_PERSON} {time} +0000\n".encode(),
        _data(message.encode() + b"\n"),
    ]
    if mark > 1:
        parts.append(f"from :{mark - 1}\n".encode())
    for path, (mode, content) in sorted(tree.items()):
        if mode == 0o160000:
            parts.append(f"M 160000 {content.decode()} {path}\n".encode())
        else:
            parts += [f"M {mode:o} inline {path}\n".encode(), _data(content)]
    return b"".join(parts)


def _data(content: bytes) -> bytes:
    return f"data {len(content)}\n".encode() + content + b"\n"
