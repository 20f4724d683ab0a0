#!/bin/sh
# The header, the runtime and a linked program for other processors, by the cross compilers of gcc and by clang.
#
#   sh tests/cross/compilers.sh BUILD_DIR     the last line is "N passed, N failed"; compilers that are missing are skipped
set -u
build=$(cd "$1" && pwd)
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
passed=0
failed=0

# target, compiler of gcc, name for clang, flags, emulator (bare: an image of tests/bare, which nothing runs here)
rows='armv8-a aarch64-linux-gnu-gcc aarch64-linux-gnu -static qemu-aarch64
armv7a arm-linux-gnueabihf-gcc arm-linux-gnueabihf -static qemu-arm
cortex-m4f arm-none-eabi-gcc arm-none-eabi -mthumb+-mcpu=cortex-m4+-mfloat-abi=hard+-mfpu=fpv4-sp-d16+-ffreestanding bare'

step() { # NAME COMMAND...
  what=$1
  shift
  if "$@" >log 2>&1; then passed=$((passed + 1)); else failed=$((failed + 1)) && echo "FAIL $what: $(head -n 1 log)"; fi
}

# Every part of the runtime that this system has what it needs for: a bare one has neither files nor threads.
parts() {
  if [ "$1" = bare ]; then echo "$root/runtime/rt_status.c $root/tests/bare/bare.c"; else echo "$root"/runtime/*.c; fi
}

by_compiler() { # ROW COMPILER LINKER EMULATOR
  options="-std=gnu11 -O1 -Wall -Wextra -Werror -I. -I$root"
  printf '#include "net.h"\n#include "runtime/qcc_rt.h"\nint main(void) { return QCC_OK; }\n' >header.c
  # shellcheck disable=SC2086
  for source in header.c $(parts "$4"); do step "$2 $1 $(basename "$source")" $2 $options -c "$source" -o part.o; done
  # shellcheck disable=SC2086
  if [ "$4" = bare ]; then
    step "$2 $1 image" sh -c "$2 -O1 -I. -I$root -c $root/tests/bare/bare.c -fno-builtin -o bare.o && $3 -nostdlib -T $root/tests/bare/bare.ld \
      -Wl,--gc-sections,--defsym=FLASH=0,--defsym=RAM=0x20000000,--defsym=HEAP=0x380000 bare.o net.o -lgcc -o net"
  else
    step "$2 $1 program" $2 -O1 -I. -I"$root" "$root/tests/cross/runner.c" "$root/runtime/rt_cpu.c" net.o -lm -o net
    command -v "$4" >/dev/null && step "$2 $1 run" timeout 60 "$4" ./net 7 "$1.bin"
  fi
}

clang=$(command -v clang-19 || command -v clang)
[ -n "$clang" ] || echo "skipped: no clang"
while read -r row gcc triple flags emulator; do
  command -v "$gcc" >/dev/null || { echo "skipped: no $gcc"; continue; }
  flags=$(echo "$flags" | tr + ' ')
  "$build/qcc" "$root/examples/digits/digits.onnx" --name net --target="$row" -o net.o || exit 1
  by_compiler "$row" "$gcc $flags" "$gcc $flags" "$emulator"
  # A bare clang has no C library of its own: the headers of gcc's.
  headers=$(echo '#include <string.h>' | "$gcc" -E -x c - 2>/dev/null | sed -n 's|.*"\(.*\)/string.h".*|\1|p' | head -n 1)
  [ "$emulator" != bare ] || triple="$triple -isystem $headers"
  [ -z "$clang" ] || by_compiler "$row" "$clang --target=$triple $flags" "$gcc $flags" "$emulator"
done <<EOF
$rows
EOF
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
