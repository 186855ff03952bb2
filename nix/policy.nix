# The policy that src/tailnet/policy.rs describes, and what its rules must not say.
{
  lib,
  user,
  people,
}:
let
  group = "group:people";
  # A user as a policy names it: with an `@`, which stands alone at the end of a local user's name.
  token = name: if lib.hasInfix "@" name then name else "${name}@";
  drones = token user;
  persons = map token people;

  # A test names one port; these stand for all: ssh of a machine and of a drone, a web server, any.
  ports =
    of:
    map (port: "${of}:${toString port}") [
      22
      2222
      3000
      65535
    ];

  # `autogroup:self` is no business of Headscale's tests, which evaluate what holds for all nodes.
  everybody = [
    "*"
    "autogroup:member"
    "autogroup:self"
    "autogroup:tagged"
    "autogroup:danger-all"
  ];
in
{
  inherit drones;
  people = persons;

  isUser = name: builtins.match "[A-Za-z0-9._+-]+(@[A-Za-z0-9._+-]*)?" name != null;

  document = {
    groups.${group} = persons;
    acls = [
      {
        action = "accept";
        src = [ group ];
        dst = [
          "${group}:*"
          "${drones}:*"
        ];
      }
    ];
    tests =
      map (person: {
        src = person;
        accept = ports drones;
      }) persons
      ++ [
        {
          src = drones;
          deny = lib.concatMap ports ([ drones ] ++ persons);
        }
      ];
  };

  # The sources of a policy's rules that include the drones.
  rulesFromDrones =
    policy:
    let
      groups = lib.attrNames (
        lib.filterAttrs (_: members: lib.any (member: token member == drones) members) (
          policy.groups or { }
        )
      );
      sources = lib.concatMap (rule: rule.src or [ ]) (
        (policy.acls or [ ]) ++ (policy.grants or [ ]) ++ (policy.ssh or [ ])
      );
    in
    lib.unique (
      lib.filter (
        source: lib.elem source (everybody ++ groups) || source == drones || source == user
      ) sources
    );
}
