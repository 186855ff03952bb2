"""The world's certificate authority, and the host's additional ones.

The authority is made once for a cache directory, since its certificate is part of every image.
"""

import re
import shutil
import ssl
from pathlib import Path
from tempfile import mkdtemp

from bed.process import run
from bed.settings import CACHE, GITHUB_NAMES, LOGIN_HOST, REGISTRY_NAMES

AUTHORITY = CACHE / "authority"
CERTIFICATE = AUTHORITY / "ca.crt"
TRUSTED = AUTHORITY / "certificates"  # what every machine trusts
TLS = AUTHORITY / "tls"  # what the servers of the world present
_NAMES = AUTHORITY / "tls.names"
_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
_PACKAGED = Path("/usr/share/ca-certificates")
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def ensure() -> None:
    """Make ca.crt, and tls.crt + tls.key for every name that *internet* and *tailnet* answer to."""
    names = ",".join(f"DNS:{name}" for name in (*GITHUB_NAMES, *REGISTRY_NAMES, LOGIN_HOST))
    if not AUTHORITY.exists():
        _make_authority()
    if not _NAMES.exists() or _NAMES.read_text() != names:
        _make_certificate(names)
    _write_certificates(TRUSTED)
    TLS.mkdir(exist_ok=True)
    for name in ("tls.crt", "tls.key"):
        shutil.copy2(AUTHORITY / name, TLS / name)


def _make_authority() -> None:
    CACHE.mkdir(parents=True, exist_ok=True)
    draft = Path(mkdtemp(prefix="authority-", dir=CACHE))
    run(
        "openssl", "req", "-x509", *_CURVE, "-keyout", draft / "ca.key", "-out", draft / "ca.crt", "-days", "3650",
        "-subj", "/CN=hatchery test world", "-addext", "basicConstraints=critical,CA:TRUE",
    )  # fmt: skip
    draft.replace(AUTHORITY)


def _make_certificate(names: str) -> None:
    draft = Path(mkdtemp(prefix="tls-", dir=AUTHORITY))
    run("openssl", "req", *_CURVE, "-keyout", draft / "tls.key", "-out", draft / "tls.csr", "-subj", "/CN=internet")
    (draft / "extensions").write_text(f"subjectAltName={names}\nextendedKeyUsage=serverAuth\n")
    run(
        "openssl", "x509", "-req", "-in", draft / "tls.csr", "-CA", CERTIFICATE, "-CAkey", AUTHORITY / "ca.key",
        "-CAcreateserial", "-days", "3650", "-extfile", draft / "extensions", "-out", draft / "tls.crt",
    )  # fmt: skip
    for name in ("tls.crt", "tls.key"):
        (draft / name).replace(AUTHORITY / name)
    _NAMES.write_text(names)
    shutil.rmtree(draft)


def certificates() -> dict[str, str]:
    """File name -> PEM of what every machine trusts beyond its distribution: ours, and the host's own.

    A host behind a proxy that opens TLS has that proxy's authority in its bundle; without it no
    package registry could be reached from a machine of the world.
    """
    trusted = {"hatchery-world.crt": CERTIFICATE.read_text()}
    if _BUNDLE.exists():
        packaged = {_der(pem) for file in _PACKAGED.rglob("*.crt") for pem in _pems(file)}
        own = [pem for pem in _pems(_BUNDLE) if _der(pem) not in packaged]
        trusted |= {f"host-{number:03}.crt": pem + "\n" for number, pem in enumerate(own)}
    return trusted


def _write_certificates(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    for name, pem in certificates().items():
        (directory / name).write_text(pem)


def _pems(file: Path) -> list[str]:
    return _PEM.findall(file.read_text(errors="replace"))


def _der(pem: str) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pem)
