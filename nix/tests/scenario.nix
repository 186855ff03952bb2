# A scenario of ../../tests/scenarios, unchanged after its prelude, on four NixOS machines. `nix flake
# check` builds it where there is KVM; elsewhere it can be evaluated, which types the script and no more.
# What is run for real on every machine is the same script, in tests/world.
{
  self,
  name,
  script,
}:
{
  name = "hatchery-${name}";
  nodes = import ./machines { inherit self; };
  testScript = script;
  # An hour is the driver's own; a scenario in which nothing hangs takes minutes.
  globalTimeout = 30 * 60;
}
