# Tries a Headscale policy: check-policy.sh FILE. Environment: people, drones: users, as policies name them.
#
# Headscale evaluates a policy's `tests` against the nodes that there are. So a Headscale that is
# gone afterwards gets a machine of each person's, and two drones.
set -euo pipefail
policy=$(realpath "$1")

# Before 0.29 it knew no tests, and needed no server to look at a policy.
if ! grep -q '"tests"' "$policy"; then
  exec headscale policy check --file "$policy"
fi

place=$(mktemp -d)
server=
trap '[ -z "$server" ] || { kill "$server" 2> /dev/null; wait "$server"; } || true; rm -rf "$place"' EXIT
# Without a sandbox the ports are everybody's.
port=$((20000 + RANDOM % 10000))

cat > "$place/config.yaml" <<END
server_url: http://127.0.0.1:$port
listen_addr: 127.0.0.1:$port
metrics_listen_addr: 127.0.0.1:0
grpc_listen_addr: 127.0.0.1:0
noise: { private_key_path: $place/noise.key }
prefixes: { v4: 100.64.0.0/10, v6: "fd7a:115c:a1e0::/48" }
derp:
  urls: []
  auto_update_enabled: false
  server:
    enabled: true
    region_id: 999
    region_code: check
    region_name: check
    stun_listen_addr: 127.0.0.1:0
    private_key_path: $place/derp.key
    automatically_add_embedded_derp_region: true
disable_check_updates: true
database: { type: sqlite, sqlite: { path: $place/db.sqlite } }
policy: { mode: file, path: $policy }
dns: { magic_dns: false, base_domain: check.invalid, override_local_dns: false }
unix_socket: $place/socket
log: { level: warn }
END
headscale() { command headscale --config "$place/config.yaml" "$@"; }

env headscale --config "$place/config.yaml" serve > "$place/log" 2>&1 &
server=$!
for _ in $(seq 50); do
  [ ! -S "$place/socket" ] || ! headscale users list > /dev/null 2>&1 || break
  kill -0 "$server" 2> /dev/null || { cat "$place/log" >&2; exit 1; }
  sleep 0.2
done

number=0
# user TOKEN: as OIDC would make it where the name has a domain.
user() {
  number=$((number + 1))
  case $1 in
    *@) name=${1%@}; headscale users create "$name" > /dev/null ;;
    *) name=person-$number; headscale users create "$name" --email "$1" > /dev/null ;;
  esac
}
node() {
  number=$((number + 1))
  local id
  id=hskey-authreq-$(printf %024d "$number")
  headscale debug create-node --name "node-$number" --user "$name" --key "$id" > /dev/null
  headscale auth register --user "$name" --auth-id "$id" > /dev/null
}
for person in $people; do
  user "$person"
  node
done
user "$drones"
node
node
headscale policy check --file "$policy"
