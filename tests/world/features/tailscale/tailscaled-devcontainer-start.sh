#!/bin/bash
# Start tailscaled as root; without root and without sudo say so and go on, as the published
# feature does. TS_AUTH_KEY joins at once, at the server that tailscale has by default.
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo > /dev/null; then
        echo "tailscaled could not start as root." >&2
        exit 1
    fi
    exec sudo --non-interactive -E "$0" "$@"
fi

auth_key=${TS_AUTH_KEY:-}
unset TS_AUTH_KEY

if [ ! -c /dev/net/tun ]; then
    mkdir -p /dev/net
    mknod /dev/net/tun c 10 200 || echo "tailscaled: no /dev/net/tun, and it could not be made" >&2
fi

TS_DEBUG_FIREWALL_MODE=auto setsid /usr/local/sbin/tailscaled > /var/log/tailscaled.log 2>&1 < /dev/null &

if [ -n "$auth_key" ]; then
    /usr/local/bin/tailscale up --accept-routes --auth-key="$auth_key" ${CODESPACE_NAME:+--hostname="$CODESPACE_NAME"}
fi
