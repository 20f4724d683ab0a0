# Sourced by tests/run.sh and examples/quickstart.sh: installs the Debian packages qcc is built with, when they are missing.
# Needs root (or sudo) only when something is missing.

qcc_packages="build-essential cmake ninja-build pkg-config xz-utils llvm-19-dev libprotobuf-c-dev protobuf-c-compiler libcriterion-dev liblapacke-dev libopenblas-dev libcjson-dev"

qcc_missing() {
  for package in $qcc_packages; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || printf '%s ' "$package"
  done
}

qcc_setup() {
  missing=$(qcc_missing)
  [ -z "$missing" ] && return 0
  echo "installing: $missing"
  if [ "$(id -u)" = 0 ]; then sudo=; else sudo=sudo; fi
  $sudo apt-get update -q >/dev/null
  # shellcheck disable=SC2086
  DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -q --no-install-recommends $missing >/dev/null
}
