# The key pair of a GitHub App that exists in tests alone.
{ runCommand, openssl }:
runCommand "world-app" { nativeBuildInputs = [ openssl ]; } ''
  mkdir $out
  openssl genrsa -traditional -out $out/private.pem 2048
  openssl rsa -in $out/private.pem -pubout -out $out/public.pem
''
