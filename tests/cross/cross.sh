#!/bin/sh
# One network, every processor: objects for other CPU rows run under an emulator give the answers of this machine's object,
# integers bit for bit, floats within 1e-4 of the largest output.
#
#   sh tests/cross/cross.sh BUILD_DIR [FOLDER]         the small networks kept here, and those of FOLDER/*/model.onnx named
#                                                      below; some of them on every row
#   sh tests/cross/cross.sh BUILD_DIR FOLDER nightly   all of FOLDER on every row
#
# Rows of Cortex-M run as images without an operating system (../bare); what a call takes of their stack must be within
# the bound of the header. The last line is "N passed, N failed"; a row whose compiler or emulator is missing is skipped with a line.
set -u
build=$(cd "$1" && pwd)
trained=${2:-}
nightly=${3:-}
turn=0
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
passed=0
failed=0

# row, C compiler, emulator: the oldest processor of the row that the emulator knows.
rows='x86-64-v2 cc qemu-x86_64+-cpu+Nehalem
x86-64-v3 cc qemu-x86_64+-cpu+Haswell
armv8-a aarch64-linux-gnu-gcc qemu-aarch64+-cpu+cortex-a53+-L+/usr/aarch64-linux-gnu
aarch64-dotprod aarch64-linux-gnu-gcc qemu-aarch64+-cpu+neoverse-n1+-L+/usr/aarch64-linux-gnu
aarch64-i8mm aarch64-linux-gnu-gcc qemu-aarch64+-cpu+max+-L+/usr/aarch64-linux-gnu
armv7a arm-linux-gnueabihf-gcc+-static qemu-arm+-cpu+cortex-a15
cortex-m0plus bare+-mcpu=cortex-m0plus mps2-an385
cortex-m3 bare+-mcpu=cortex-m3 mps2-an385
cortex-m4 bare+-mcpu=cortex-m4 mps2-an386
cortex-m4f bare+-mcpu=cortex-m4+-mfloat-abi=hard+-mfpu=fpv4-sp-d16 mps2-an386
cortex-m7 bare+-mcpu=cortex-m7+-mfloat-abi=hard+-mfpu=fpv5-sp-d16 mps2-an500
cortex-m33 bare+-mcpu=cortex-m33+-mfloat-abi=hard+-mfpu=fpv5-sp-d16 mps2-an505
cortex-m55 bare+-mcpu=cortex-m55+-mfloat-abi=hard mps3-an547'
# Rows that every network runs on here; the others take turns.
always=' armv8-a aarch64-dotprod cortex-m4f '
# One of each kind: float, depthwise, int8, W1A1, W1A2, W2A2, ternary, W4A4, codebook, Kronecker, TT, sparse, recurrent.
networks='dwsep-cnn resnet20-cifar-int8-qop bnn-cnn-w1a1 bnn-mlp-w1a1 dorefa-w1a2-cnn balanced-w2a2-cnn twn-mlp-a2 lsq-w4a4-plain-cnn
nmnf-relu6-32-w255-mlp kron-784x195-r3 tt-784x256-r6 groupsparse-cnn lstm-char-alt2bit'

fail() {
  failed=$((failed + 1))
  echo "FAIL $1"
}

words() { echo "$1" | tr + ' '; }

# Where the emulated board has its memory: vectors and code, then data and how much of it.
memory() {
  case $1 in
    mps2-an505) echo 0x10000000 0x38000000 0x180000 ;;
    mps3-an547) echo 0x10000000 0x31000000 0x180000 ;;
    *) echo 0 0x20000000 0x380000 ;;
  esac
}

# An image for a board: link FLAGS BOARD
link_bare() {
  # shellcheck disable=SC2046
  set -- $(words "$1") $(memory "$2")
  shift
  flags=
  while [ $# -gt 3 ]; do
    flags="$flags $1"
    shift
  done
  # shellcheck disable=SC2086
  arm-none-eabi-gcc -O1 -mthumb $flags -ffreestanding -fno-tree-loop-distribute-patterns -nostdlib -I. -I"$root" \
    -T "$root/tests/bare/bare.ld" -Wl,--gc-sections,--defsym=FLASH="$1",--defsym=RAM="$2",--defsym=HEAP="$3" \
    "$root/tests/bare/bare.c" net.o -lgcc -o net
}

link_program() {
  # shellcheck disable=SC2046
  case $1 in
    bare*) link_bare "$1" "$2" ;;
    *) $(words "$1") -O1 -I"$root" "$root/tests/cross/runner.c" "$root/runtime/rt_cpu.c" net.o -lm -o net ;;
  esac
}

# emulate EMULATOR: runs ./net, which writes net.bin.
emulate() {
  # shellcheck disable=SC2046
  case $1 in
    mps*) timeout 300 qemu-system-arm -M "$1" -nographic -semihosting -kernel net ;;
    *) timeout 300 $(words "$1") ./net 7 net.bin ;;
  esac
}

# The memory that board starts from is small.
fits() { [ "$1" != mps3-an547 ] || [ "$(arm-none-eabi-size net | awk 'END {print $1}')" -lt 524288 ]; }

# The bytes a run took, of what the header bounds; nothing where they were not measured.
stack_holds() {
  used=$(sed -n 's/^stack *//p' log)
  bound=$(sed -n 's/^#define net_STACK_SIZE \([0-9]*\).*/\1/p' net.h)
  [ -z "$used" ] || [ "$used" -le "$bound" ]
}

# on_row NETWORK FILE ROW CC EMULATOR: its answers against those of ./host.
on_row() {
  rm -f net.bin
  "$build/qcc" "$2" --dim N=1 --name net --target="$3" -o net.o 2>log || { fail "$1 $3: $(head -n 1 log)"; return; }
  link_program "$4" "$5" 2>log || { fail "$1 $3: $(grep -m 1 -E 'error|undefined' log)"; return; }
  fits "$5" || { echo "skipped: $1 is larger than the flash of $5"; return; }
  emulate "$5" >log 2>&1 </dev/null || { fail "$1 $3: exit code $? under $5"; return; }
  stack_holds || { fail "$1 $3: $used bytes of stack, more than $bound"; return; }
  if ./host host.bin net.bin 1e-4 >log; then passed=$((passed + 1)); else fail "$1 $3: $(head -n 1 log)"; fi
}

# Whether a network runs on a row: on all of them at night.
takes_turn() {
  [ -n "$nightly" ] && return 0
  case $always in *" $1 "*) return 0 ;; esac
  turn=$((turn + 1))
  [ $((turn % 5)) -eq 0 ]
}

on_all_rows() {
  "$build/qcc" "$2" --dim N=1 --name net -o host.o 2>log || { fail "$1: $(head -n 1 log)"; return; }
  cc -O1 -I"$root" "$root/tests/cross/runner.c" "$root/runtime/rt_cpu.c" host.o -lm -o host && ./host 7 host.bin >log || { fail "$1 on this machine"; return; }
  while read -r row cc emulator; do
    if takes_turn "$row"; then on_row "$1" "$2" "$row" "$cc" "$emulator"; fi
  done <<EOF
$have
EOF
}

have=
while read -r row cc emulator; do
  compiler=${cc%%+*} runs=${emulator%%+*}
  [ "$compiler" = bare ] && compiler=arm-none-eabi-gcc runs=qemu-system-arm
  if command -v "$compiler" >/dev/null && command -v "$runs" >/dev/null; then
    have="$have$row $cc $emulator
"
  else
    echo "skipped: $row needs $compiler and $runs"
  fi
done <<EOF
$rows
EOF
have=${have%?}
[ -n "$have" ] || { echo "0 passed, 0 failed"; exit 0; }

[ -n "$nightly" ] && networks=$(ls "$trained")
for file in "$root"/examples/*/*.onnx; do on_all_rows "$(basename "$file" .onnx)" "$file"; done
[ -n "$trained" ] && for name in $networks; do
  [ -f "$trained/$name/model.onnx" ] && on_all_rows "$name" "$trained/$name/model.onnx"
done
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
