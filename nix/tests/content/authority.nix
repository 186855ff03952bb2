# The authority that all machines and drones trust, and its certificate for every name of internet
# and for Headscale's.
{ runCommand, openssl }:
let
  world = import ../world.nix;
in
runCommand "world-authority" { nativeBuildInputs = [ openssl ]; } ''
  mkdir $out && cd $out
  curve="-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
  openssl req -x509 $curve -keyout ca.key -out ca.crt -days 36500 -subj '/CN=hatchery test world' \
    -addext basicConstraints=critical,CA:TRUE
  openssl req $curve -keyout tls.key -out tls.csr -subj /CN=internet
  names=DNS:github.com,DNS:api.github.com,DNS:ghcr.io,DNS:mcr.microsoft.com,DNS:${world.loginHost}
  printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth\n' $names > extensions
  openssl x509 -req -in tls.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 36500 \
    -extfile extensions -out tls.crt
  rm tls.csr extensions
''
