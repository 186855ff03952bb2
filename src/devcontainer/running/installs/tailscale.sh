# The published script runs with what it takes for given.
has bash || add bash
has curl || has wget || add curl
has tar || add tar
has gzip || add gzip
# Without it tailscaled asks the kernel for nftables itself.
if [ "$manager" != none ] && ! has iptables; then
    (add iptables) || echo "hatchery: $manager has no iptables" >&2
fi
exec ./hatchery-published.sh
