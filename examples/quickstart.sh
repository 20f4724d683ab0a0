#!/bin/sh
# Sets up, builds qcc, compiles the shipped networks, links them into C programs and shows their answers.
set -eu
cd "$(dirname "$0")/.."
. cmake/setup.sh
qcc_setup
mkdir -p build/examples
[ -f build/release/build.ninja ] || cmake --preset release -DQCC_TESTS=OFF >/dev/null
cmake --build --preset release --target qcc -j "$(nproc)" >build/quickstart.log 2>&1 || {
  tail -n 30 build/quickstart.log
  exit 1
}
out=build/examples
qcc=build/release/qcc

$qcc examples/digits/digits.onnx -o $out/digits.o
cc -std=c11 -O2 -Wall -Wextra -Iruntime -I$out examples/digits/main.c $out/digits.o -o $out/digits
$out/digits examples/digits/digits.bin

$qcc examples/two-models/kron.onnx -o $out/kron.o
cc -std=c11 -O2 -Wall -Wextra -Iruntime -I$out examples/two-models/main.c $out/digits.o $out/kron.o -pthread -o $out/two-models
$out/two-models examples/digits/digits.bin

# The digits in the file, in order; the networks must agree with them.
want="7 2 1 0 4 9 5 3 6 8"
got=$($out/digits examples/digits/digits.bin | sed -n 's/this is a //p' | tr '\n' ' ' | sed 's/ $//')
if [ "$got" = "$want" ]; then
  echo "1 passed, 0 failed"
else
  echo "FAIL: expected $want, got $got"
  echo "0 passed, 1 failed"
  exit 1
fi
