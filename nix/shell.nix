# To build hatchery and to check it; the test world needs Docker and root beyond this.
{
  mkShell,
  cargo,
  clippy,
  deadnix,
  git,
  mypy,
  nixfmt-tree,
  nftables,
  openssh,
  python3,
  ruff,
  rust-analyzer,
  rustc,
  rustfmt,
}:
mkShell {
  packages = [
    cargo
    clippy
    deadnix
    git
    mypy
    nixfmt-tree
    nftables
    openssh
    python3
    ruff
    rust-analyzer
    rustc
    rustfmt
  ];
}
