#!/bin/sh
# One network, every processor: objects for other CPU rows run under an emulator give the answers of this machine's object,
# integers bit for bit, floats within 1e-4 of the largest output.
#
#   sh tests/cross/cross.sh BUILD_DIR [FOLDER]   the small networks kept here, and those of FOLDER/*/model.onnx named below
#
# The last line is "N passed, N failed"; a row whose compiler or emulator is missing is skipped with a line.
set -u
build=$(cd "$1" && pwd)
trained=${2:-}
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
passed=0
failed=0

# row, C compiler, emulator: the oldest processor of the row that the emulator knows.
rows='x86-64-v2 cc qemu-x86_64+-cpu+Nehalem
x86-64-v3 cc qemu-x86_64+-cpu+Haswell
aarch64 aarch64-linux-gnu-gcc qemu-aarch64+-cpu+cortex-a53+-L+/usr/aarch64-linux-gnu
aarch64-dotprod aarch64-linux-gnu-gcc qemu-aarch64+-cpu+neoverse-n1+-L+/usr/aarch64-linux-gnu'
# One of each kind: float, depthwise, int8, W1A1, W1A2, W2A2, ternary, W4A4, codebook, Kronecker, TT, sparse, recurrent.
networks='dwsep-cnn resnet20-cifar-int8-qop bnn-cnn-w1a1 bnn-mlp-w1a1 dorefa-w1a2-cnn balanced-w2a2-cnn twn-mlp-a2 lsq-w4a4-plain-cnn
nmnf-relu6-32-w255-mlp kron-784x195-r3 tt-784x256-r6 groupsparse-cnn lstm-char-alt2bit'

fail() {
  failed=$((failed + 1))
  echo "FAIL $1"
}

emulate() {
  # shellcheck disable=SC2046
  timeout 120 $(echo "$1" | tr + ' ') "$2" 7 "$3"
}

# on_row NETWORK FILE ROW CC EMULATOR: its answers against those of ./host.
on_row() {
  "$build/qcc" "$2" --dim N=1 --name net --target="$3" -o net.o 2>log || { fail "$1 $3: $(head -n 1 log)"; return; }
  "$4" -O1 -I"$root" "$root/tests/cross/runner.c" net.o -lm -o net 2>log || { fail "$1 $3: $(head -n 1 log)"; return; }
  emulate "$5" ./net net.bin 2>log || { fail "$1 $3: exit code $? under $5"; return; }
  if ./host host.bin net.bin 1e-4 >log; then passed=$((passed + 1)); else fail "$1 $3: $(head -n 1 log)"; fi
}

on_all_rows() {
  "$build/qcc" "$2" --dim N=1 --name net -o host.o 2>log || { fail "$1: $(head -n 1 log)"; return; }
  cc -O1 -I"$root" "$root/tests/cross/runner.c" host.o -lm -o host && ./host 7 host.bin || { fail "$1 on this machine"; return; }
  while read -r row cc emulator; do on_row "$1" "$2" "$row" "$cc" "$emulator"; done <<EOF
$have
EOF
}

have=
while read -r row cc emulator; do
  if command -v "$cc" >/dev/null && command -v "${emulator%%+*}" >/dev/null; then
    have="$have$row $cc $emulator
"
  else
    echo "skipped: $row needs $cc and ${emulator%%+*}"
  fi
done <<EOF
$rows
EOF
have=${have%?}
[ -n "$have" ] || { echo "0 passed, 0 failed"; exit 0; }

for file in "$root"/examples/*/*.onnx; do on_all_rows "$(basename "$file" .onnx)" "$file"; done
[ -n "$trained" ] && for name in $networks; do on_all_rows "$name" "$trained/$name/model.onnx"; done
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
