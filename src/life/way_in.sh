# Lets what comes by the tailnet into a drone whose own firewall keeps all out, for as long as its rules
# stand. $1: open, or look. The last word printed: none (no firewall), open or closed.
#
# tailscaled marks its own packets (0x80000/0xff0000), so that the way to the control server and to relays
# is let through for it alone.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
doing=$1 device=tailscale0 found=

is_shut() {
  case $1 in *"-j DROP"* | *"-j REJECT"* | *"-P INPUT DROP"* | *"-P OUTPUT DROP"*) ;; *) return 1 ;; esac
}

# CHAIN RULE...: at the chain's beginning, once.
put_first() {
  chain=$1
  shift
  "$tool" -w 2 -C "$chain" "$@" 2>/dev/null || "$tool" -w 2 -I "$chain" 1 "$@" 2>/dev/null
}

tables() {
  rules=$("$tool" -w 2 -S 2>/dev/null) && is_shut "$rules" || return 0
  found=1
  accepts="-A INPUT -i $device -j ACCEPT"
  if [ "$doing" = open ]; then
    put_first INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
    put_first OUTPUT -m mark --mark 0x80000/0xff0000 -j ACCEPT
    put_first OUTPUT -o "$device" -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
    if [ "$("$tool" -w 2 -S INPUT 1 2>/dev/null)" != "$accepts" ]; then
      while "$tool" -w 2 -D INPUT -i "$device" -j ACCEPT 2>/dev/null; do :; done
      "$tool" -w 2 -I INPUT 1 -i "$device" -j ACCEPT 2>/dev/null
    fi
  fi
  [ "$("$tool" -w 2 -S INPUT 1 2>/dev/null)" = "$accepts" ] || echo closed
}

# What nft has beside the chains that iptables keeps in it.
chains() {
  family='' table='' chain=''
  nft list chains 2>/dev/null | while read -r first second third fourth _; do
    case "$first $second" in
    "table "*) family=$second table=$third ;;
    "chain "*) chain=$second ;;
    "type filter")
      case $family/$table/$chain in ip/filter/[A-Z]* | ip6/filter/[A-Z]*) continue ;; esac
      case $fourth in
      input) rule="iifname $device accept" ;;
      output) rule="meta mark and 0xff0000 == 0x80000 accept" ;;
      *) continue ;;
      esac
      rules=$(nft list chain "$family" "$table" "$chain" 2>/dev/null)
      case $rules in *drop* | *reject*) echo shut ;; *) continue ;; esac
      case $rules in *'comment "hatchery"'*) continue ;; esac
      if [ "$doing" = open ]; then
        nft insert rule "$family" "$table" "$chain" $rule comment '"hatchery"' 2>/dev/null && continue
      fi
      [ "$fourth" = output ] || echo closed
      ;;
    esac
  done
}

for tool in iptables ip6tables; do
  command -v "$tool" >/dev/null && said=$said$(tables; echo "$found")
done
command -v nft >/dev/null && said=$said$(chains)
case $said in *closed*) echo closed ;; *shut* | *1*) echo open ;; *) echo none ;; esac
