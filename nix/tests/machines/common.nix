# What all four have: an address, internet's resolver, its authority, a person's tools.
{
  lib,
  config,
  pkgs,
  ...
}:
let
  world = import ../world.nix;
  authority = pkgs.callPackage ../content/authority.nix { };
in
{
  networking = {
    useDHCP = false;
    interfaces.eth1.ipv4.addresses = lib.mkForce [
      {
        address = world.addresses.${config.networking.hostName};
        prefixLength = 24;
      }
    ];
    nameservers = [ world.addresses.internet ];
    # By DNS alone, as in the world.
    extraHosts = lib.mkForce "";
    firewall.enable = false;
  };
  security.pki.certificateFiles = [ "${authority}/ca.crt" ];

  users.users.levin = {
    isNormalUser = true;
    uid = 1000;
  };
  environment.systemPackages = with pkgs; [
    curl
    git
    git-lfs
    iptables
    jq
    lsof
    netcat-openbsd
    nftables
    psmisc
    python3
  ];
  services.openssh = {
    enable = true;
    settings.PermitRootLogin = "prohibit-password";
  };
  virtualisation = {
    cores = lib.mkDefault 2;
    memorySize = lib.mkDefault 1024;
    diskSize = lib.mkDefault 8192;
  };
}
