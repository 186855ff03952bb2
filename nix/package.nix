# hatchery and hatchery-credd, the drones' program beside them, and the units.
{
  lib,
  rustPlatform,
  stdenv,
  installShellFiles,
  makeBinaryWrapper,
  pkgsStatic,
  docker-client,
  docker-compose,
  git,
  openssh,
  tailscale,
  hatchery-drone ? pkgsStatic.callPackage ./drone.nix { },
}:
let
  manifest = (lib.importTOML ../Cargo.toml).package;
  # The devcontainer CLI brings a Node of its own and is named in the configuration.
  programs = lib.makeBinPath [
    docker-client
    docker-compose
    git
    openssh
    tailscale
  ];
in
rustPlatform.buildRustPackage {
  pname = "hatchery";
  inherit (manifest) version;
  src = import ./source.nix { inherit lib; };
  cargoLock.lockFile = ../Cargo.lock;
  cargoBuildFlags = [
    "--bin"
    "hatchery"
    "--bin"
    "hatchery-credd"
  ];
  # They need Docker, systemd and an sshd: `make test`.
  doCheck = false;

  nativeBuildInputs = [
    installShellFiles
    makeBinaryWrapper
  ];

  postInstall = ''
    mkdir -p $out/libexec/hatchery
    ln -s ${hatchery-drone}/bin/hatchery-drone $out/libexec/hatchery/hatchery-drone
    install -D -m 0644 -t $out/share/hatchery systemd/hatchery.nft
    install -D -m 0644 systemd/hatchery.polkit.rules $out/share/polkit-1/rules.d/50-hatchery.rules
    install -D -m 0644 systemd/hatchery.sysusers $out/lib/sysusers.d/hatchery.conf
    install -D -m 0644 systemd/hatchery.tmpfiles $out/lib/tmpfiles.d/hatchery.conf
    install -D -m 0644 -t $out/lib/systemd/system systemd/*.service systemd/*.socket systemd/*.timer
    substituteInPlace $out/lib/systemd/system/* --replace-quiet /usr/local $out
    for unit in docker.socket nftables.service; do
      install -D -m 0644 -t $out/lib/systemd/system/$unit.d systemd/$unit.d/50-hatchery.conf
    done
  ''
  + lib.optionalString (stdenv.buildPlatform.canExecute stdenv.hostPlatform) ''
    for shell in bash fish zsh; do
      $out/bin/hatchery completions $shell > hatchery.$shell
    done
    installShellCompletion hatchery.{bash,fish,zsh}
    mkdir man
    $out/bin/hatchery man-pages man
    installManPage man/*.1
  '';

  postFixup = ''
    wrapProgram $out/bin/hatchery --prefix PATH : ${programs}
  '';

  meta = {
    inherit (manifest) description;
    homepage = manifest.repository;
    license = lib.licenses.mit;
    platforms = lib.platforms.linux;
    mainProgram = "hatchery";
  };
}
