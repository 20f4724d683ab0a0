#!/bin/sh
# One object, every level: what it answers at each level this machine has, and at the levels of older processors under
# an emulator, is what the level below answers: integers bit for bit, floats within 1e-4 of the largest output.
#
#   sh tests/cross/levels.sh BUILD_DIR [FOLDER [NAMES]]   the networks kept here and those of FOLDER/*/model.onnx, or NAMES
#
# Also: a level that the machine lacks is refused and what is missing is named, and so is a name that is no level.
# The last line is "N passed, N failed".
set -u
build=$(cd "$1" && pwd)
folder=${2:-}
names=${3:-}
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
passed=0
failed=0
levels='x86-64-v2 x86-64-v3 alderlake icelake sapphire-rapids'
[ "$(uname -m)" = x86_64 ] || { echo "skipped: the levels of x86-64 need such a machine"; echo "0 passed, 0 failed"; exit 0; }

fail() {
  failed=$((failed + 1))
  echo "FAIL $1"
}

# same NAME CASE: net.bin against the first answers.
same() {
  if ./net base.bin net.bin 1e-4 >diff; then passed=$((passed + 1)); else fail "$1 $2: $(head -n 1 diff)"; fi
}

# at_level NAME LEVEL
at_level() {
  QCC_CPU=$2 ./net 7 net.bin >log
  case $?,$(head -n 1 log) in
    "0,level $2") same "$1" "$2" ;;
    3,lacks*) skipped="$skipped $2" ;;
    *) fail "$1 $2: $(head -n 1 log)" ;;
  esac
}

# emulated NAME CPU LEVEL: init finds the level by itself.
emulated() {
  command -v qemu-x86_64 >/dev/null || return
  timeout 120 qemu-x86_64 -cpu "$2" ./net 7 net.bin >log 2>/dev/null
  if [ "$(head -n 1 log)" = "level $3" ]; then same "$1" "$2"; else fail "$1 $2: $(head -n 1 log)"; fi
}

network() {
  "$build/qcc" "$2" --dim N=1 --dim T=5 --name net --target=x86-64 -o net.o 2>log || { fail "$1: $(head -n 1 log)"; return; }
  cc -O1 -I"$root" "$root/tests/cross/runner.c" "$root/runtime/rt_cpu.c" net.o -lm -o net 2>log || { fail "$1: $(head -n 1 log)"; return; }
  QCC_CPU=x86-64-v2 ./net 7 base.bin >log || { fail "$1: $(head -n 1 log)"; return; }
  skipped=
  for level in $levels; do at_level "$1" "$level"; done
  emulated "$1" Nehalem x86-64-v2
  emulated "$1" Haswell x86-64-v3
}

# Of the last network: names that are no level, and a processor older than all.
refusals() {
  for junk in junk x86-64 X86-64-V3 icelake-server ' ' "$(printf '%0500d' 0)"; do
    if QCC_CPU=$junk ./net 7 net.bin >log; then fail "QCC_CPU='$junk' is taken"; elif [ "$(cat log)" = 'status 9' ]; then passed=$((passed + 1)); else fail "QCC_CPU='$junk': $(cat log)"; fi
  done
  command -v qemu-x86_64 >/dev/null || return
  timeout 60 qemu-x86_64 -cpu Conroe ./net 7 net.bin >log 2>/dev/null
  if [ $? = 3 ] && grep -q '^lacks sse4' log; then passed=$((passed + 1)); else fail "Conroe: $(cat log)"; fi
  QCC_CPU=x86-64-v3 timeout 60 qemu-x86_64 -cpu Nehalem ./net 7 net.bin >log 2>/dev/null
  if [ $? = 3 ] && grep -q '^lacks fma' log; then passed=$((passed + 1)); else fail "v3 on Nehalem: $(cat log)"; fi
}

for file in "$root"/examples/*/*.onnx; do network "$(basename "$file" .onnx)" "$file"; done
[ -n "$folder" ] && for file in "$folder"/*/model.onnx; do
  name=$(basename "$(dirname "$file")")
  [ -z "$names" ] || echo " $names " | grep -q " $name " || continue
  network "$name" "$file"
done
refusals
[ -n "$skipped" ] && echo "not on this machine:$skipped"
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
