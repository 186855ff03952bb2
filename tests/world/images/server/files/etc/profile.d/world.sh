# Node has a list of authorities of its own; this adds the system's.
export NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt
