# Node has a list of authorities of its own; this adds the system's.
export NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt
# Headscale speaks plain http here; a tailscaled started from a shell must know.
export TS_DEBUG_USE_DERP_HTTP=true
