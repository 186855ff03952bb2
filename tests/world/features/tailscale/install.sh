#!/bin/bash
# Stand-in for the published feature. The binaries are where that one puts them.
set -euo pipefail
here=$(dirname "$0")
install -D -m 755 "$here/tailscaled" /usr/local/sbin/tailscaled
ln -sf ../sbin/tailscaled /usr/local/bin/tailscale
install -D -m 755 "$here/tailscaled-entrypoint.sh" /usr/local/sbin/tailscaled-entrypoint
install -D -m 755 "$here/tailscaled-devcontainer-start.sh" /usr/local/sbin/tailscaled-devcontainer-start
mkdir -p /var/lib/tailscale /var/run/tailscale
