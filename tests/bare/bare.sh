#!/bin/sh
# Three networks on a Cortex-M4 without an operating system, under an emulator: outputs against those of this machine,
# what a call takes of the stack against the bound of the header, and what they need of the flash and of the RAM.
#
#   sh tests/bare/bare.sh BUILD_DIR SHARED     the last line is "N passed, N failed"
set -u
build=$(cd "$1" && pwd)
shared=$(cd "$2" && pwd)
root=$(cd "$(dirname "$0")/../.." && pwd)
for tool in arm-none-eabi-gcc qemu-system-arm; do
  command -v $tool >/dev/null || { echo "skipped: no $tool"; echo "0 passed, 0 failed"; exit 0; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
passed=0
failed=0

# The network, where it is, how far its floats may be from those of this machine: 0 where they come from integers.
networks='micro-kws-int8 suites/real-models/micro-kws-qoperator 0
mnist-mlp-w1a1 models/trained/bnn-mlp-w1a1 1e-6
resnet8 suites/real-models/mlperf-ic-resnet8 1e-4'

# A number of the report.
reported() { sed -n "s/.*\"$1\":\([0-9]*\),.*/\1/p" net.json; }

image() {
  arm-none-eabi-gcc -O1 -mthumb -mcpu=cortex-m4 -mfloat-abi=hard -mfpu=fpv4-sp-d16 -ffreestanding \
    -fno-tree-loop-distribute-patterns -nostdlib -I. -I"$root" -T "$root/tests/bare/bare.ld" \
    -Wl,--gc-sections,--defsym=FLASH=0,--defsym=RAM=0x20000000,--defsym=HEAP=0x380000 \
    "$root/tests/bare/bare.c" net.o -lgcc -o net.elf
}

check() {
  rm -f net.bin
  "$build/qcc" "$2" --dim N=1 --name net -o host.o && cc -O1 -I"$root" "$root/tests/cross/runner.c" "$root/runtime/rt_cpu.c" host.o -lm -o host &&
    ./host 7 host.bin && "$build/qcc" "$2" --dim N=1 --name net --target=cortex-m4f -o net.o --report=net.json && image &&
    timeout 300 qemu-system-arm -M mps2-an386 -nographic -semihosting -kernel net.elf >run.log 2>&1 </dev/null &&
    ./host host.bin net.bin "$3"
}

while read -r name folder gate; do
  if check "$name" "$shared/$folder/model.onnx" "$gate" >log 2>&1; then
    stack=$(sed -n 's/^stack *//p' run.log)
    bound=$(reported stack_bytes)
    bytes=$(($(reported ram_bytes) - bound))
    echo "$name: flash $(reported flash_bytes) ($(reported code_bytes) code), RAM $((bytes + stack)) ($bytes workspace," \
      "$stack stack of at most $bound), $(reported instructions) instructions"
    if [ "$stack" -le "$bound" ]; then passed=$((passed + 1)); else failed=$((failed + 1)) && echo "FAIL $name: stack"; fi
  else
    failed=$((failed + 1))
    echo "FAIL $name: $(tail -n 1 log)"
  fi
done <<EOF
$networks
EOF
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
