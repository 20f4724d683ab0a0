#!/bin/sh
# The command line (design section 8): every exit code, messages of one line, files that appear whole or not at all, help
# and manual that know every option.
#
#   sh tests/driver/cli.sh BUILD_DIR     the last line is "N passed, N failed"
set -u
build=$(cd "$1" && pwd)
root=$(cd "$(dirname "$0")/../.." && pwd)
qcc=$build/qcc
model=$root/examples/digits/digits.onnx
small=$root/tests/models/small
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
passed=0
failed=0
cd "$work" || exit 1

verdict() { # NAME STATUS
  if [ "$2" -eq 0 ]; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    echo "FAIL $1"
    head -n 5 err
  fi
}

# check NAME COMMAND...: the command succeeds.
check() {
  name=$1
  shift
  : >err
  "$@" >out 2>>err
  verdict "$name" $?
}

# Lines of plain text, each at most 2,200 bytes.
messages_plain() { ! LC_ALL=C grep -q '[^[:print:]	]' err && [ "$(wc -L <err)" -le 2200 ]; }

# ends CODE LINES PATTERN COMMAND...: exit code, number of lines on standard error ("+" for at least one), a pattern in
# them, and nothing left in the folder `box`.
ends() {
  code=$1
  lines=$2
  pattern=$3
  shift 3
  rm -rf box
  mkdir box
  "$@" >out 2>err </dev/null
  got=$?
  n=$(wc -l <err)
  ok=1
  [ "$got" -eq "$code" ] && ok=0
  [ "$lines" = + ] && [ "$n" -eq 0 ] && ok=1
  [ "$lines" != + ] && [ "$n" -ne "$lines" ] && ok=1
  grep -q -e "$pattern" err || ok=1
  messages_plain || ok=1
  [ -z "$(ls -A box)" ] || ok=1
  [ $ok -eq 0 ] || echo "exit $got, wanted $code; $n lines, wanted $lines; pattern '$pattern'" >>err
  verdict "$*" $ok
}

# ---- 0 and what it writes
check "compile" "$qcc" "$model" -o m.o
check "object and header" test -s m.o -a -s m.h
check "nothing else" sh -c '[ "$(ls | grep -vxE "out|err" | tr "\n" " ")" = "m.h m.o " ]'
check "output replaced" sh -c "cp m.o first.o; $qcc $model -o m.o && cmp m.o first.o"
check "file mode follows the umask" sh -c "umask 027; $qcc $model -o mode.o && [ \$(stat -c %a mode.o) = 640 ]"
check "--name" sh -c "$qcc $model --name net -o n.o && nm n.o | grep -q ' net_model$' && grep -q net_run n.h"
for kind in asm ll qir kir; do
  check "--emit=$kind" sh -c "$qcc $model --name e --emit=$kind -o e.txt && test -s e.txt"
  check "--emit=$kind to standard output" sh -c "$qcc $model --name e --emit=$kind | cmp - e.txt"
done
check "--emit=qir is read back" sh -c "$qcc $model --emit=qir -o back.qir && $qcc back.qir -o back.o"
check "--report" sh -c "$qcc $model -o m.o --report r.txt --report r.json && grep -q MACs r.txt && grep -q '\"layers\"' r.json"
check "--report states the ratio of the whole object" sh -c "$qcc $model -o m.o --report r.txt --report r.json && grep -q '^object [0-9]* bytes, [0-9.]* times smaller' r.txt &&
  size=\$(wc -c <m.o) && grep -q \"\\\"object_bytes\\\":\$size,\" r.json && sed -n 's/.*\"parameter_bytes_f32\":\([0-9]*\),.*\"object_ratio\":\([0-9.]*\),.*/\1 \2/p' r.json |
  awk -v size=\$size '{ d = \$1 / size - \$2; ok = d < 1e-4 && d > -1e-4 } END { exit !ok }'"
footprint() { "$qcc" $model -o m.o --target="$1" --report r.txt --report r.json && sed -n 's/.*"flash_bytes":\([0-9]*\),"code_bytes":\([0-9]*\),"ram_bytes":\([0-9]*\),"stack_bytes":\([0-9]*\),"instructions":\([0-9]*\),.*/\1 \2 \3 \4 \5/p' r.json >n &&
  read -r flash code ram stack count <n && grep -q "^flash $flash bytes ($code of code, .*RAM $ram (.*$stack of stack.* $count instructions\$" r.txt && [ "$count" -gt 100 ] &&
  grep -q "_STACK_SIZE $stack\>" m.h && grep -q "_WORKSPACE_SIZE $((ram - stack))\>" m.h && [ "$code" -eq "$(text_bytes m.o)" ] && [ "$flash" -gt "$code" ]; }
text_bytes() { echo $((0x$(readelf -SW "$1" | sed -n 's/.* [.]text  *PROGBITS  *[0-9a-f]* [0-9a-f]* \([0-9a-f]*\) .*/\1/p'))); }
for target in x86-64 x86-64-v2 aarch64 armv7a cortex-m0plus cortex-m4f; do check "--report states flash and RAM, $target" footprint $target; done
check "--report as a page" sh -c "$qcc $model -o m.o --report r.html && grep -q '</table>' r.html && ! grep -q http r.html"
check "--report to a pipe" sh -c "$qcc $model -o m.o --report=/dev/stdout | cat | grep -q bit-ops"
check "--report states precision" sh -c "$qcc $model -o m.o --report r.txt && grep -q '^  declared  *weights f32' r.txt && grep -q 'W32A32' r.txt"
printf '%s\n' 'const @w: i8[8,16] = rand(1)' 'func @f(%x: u8[4,8]) -> i32[4,16] {' '%0 = matmul %x, @w : i32[4,16]' 'return %0' '}' >int.qir
check "--require=integer of integers" "$qcc" int.qir -o m.o --require=integer --require='dot8:*'
sed '1,/^$/d; /^--- expect/,$d' "$root/tests/golden/levels/tolerate.qir" >near.qir
check "--tolerate" sh -c "$qcc near.qir -o m.o --require=integer --tolerate=0.001 --report r.txt && grep -q 'miss by up to' r.txt"
ends 3 1 'on floats' "$qcc" near.qir -o box/m.o --require=integer
check "--explain" sh -c "$qcc $model -o m.o --explain 2>&1 | grep -q fma"
check "--time-passes" sh -c "$qcc $model -o m.o --time-passes 2>&1 | grep -q '^lower .* ms'"
check "--print-after" sh -c "$qcc $model -o m.o --print-after=fuse 2>&1 | grep -q '^# after fuse'"
check "--verify-each" "$qcc" "$model" -o m.o --verify-each
check "--fp=bf16" "$qcc" "$model" -o m.o --fp=bf16 --target=zen4
check "--fp=strict" "$qcc" "$model" -o m.o --fp=strict
check "quiet unless asked" sh -c "[ -z \"\$($qcc $model -o m.o 2>&1)\" ]"
check "-v says what was done" sh -c "$qcc -v $model -o m.o | grep -q steps"
rnn=$small/rnn_20035
check "run" sh -c "$qcc run $rnn/model.onnx --input $rnn/test_data_set_0/input_0.pb | grep -q ': f32'"
check "run --save" sh -c "mkdir -p saved; $qcc run $rnn/model.onnx --input $rnn/test_data_set_0/input_0.pb --save saved && ls saved/*.npy"
check "verify" sh -c "$qcc verify $rnn/model.onnx --data $rnn | grep -q 'verify: ok'"
check "bench" sh -c "$qcc bench $model --iterations 3 | grep -qi median"
check "bench --peer" sh -c "$qcc bench $model --iterations 3 --peer=\"printf '{\\\"engine\\\":\\\"other\\\",\\\"median_us\\\":5e9,\\\"min_us\\\":4e9}'; :\" | grep -q '^other .*4000000000.*x$'"
check "bench table" sh -c "sh $root/tests/bench/table.sh $qcc \"printf '{\\\"engine\\\":\\\"other\\\",\\\"median_us\\\":5e9,\\\"min_us\\\":4e9}'; :\" $model | grep -q '^| .* | 4000000000 | [0-9.]* |$'"
check "bench --json" sh -c "$qcc bench $model --iterations 3 --json | grep -q '^{'"
check "bench --suite" sh -c "$qcc bench --suite=regret:1x1-256x14\ W1 | grep -q 'largest regret'"
check "bench --calibrate" sh -c "$qcc bench --calibrate | grep -q '^.fma_per_cycle = [1-9.]'"
check "inspect" sh -c "$qcc inspect $model | grep -qi conv"
check "inspect --json" sh -c "$qcc inspect --json $model | grep -q '^{'"
# the tables of S21, row by row
cat >s21 <<'ROWS'
conv0_W .*1800 .*7\.0 KiB .*0\.21%
conv0_b .*24 .*96\.0 B .*0\.00%
conv1_W .*6912 .*27\.0 KiB .*0\.80%
conv2_W .*9216 .*36\.0 KiB .*1\.07%
conv3_W .*18432 .*72\.0 KiB .*2\.14%
fc0_W .*819200 .*3\.1 MiB .*95\.11% #####
fc0_b .*512 .*2\.0 KiB .*0\.06%
fct_W .*5120 .*20\.0 KiB .*0\.59%
total size .*861354 .*3\.3 MiB
conv .*f32\[1,24,36,36\] .*31104 .*2332800 .*2\.2 Mi .*32\.43% #####
maxpool .*f32\[1,24,18,18\] .*7776 .* 0 .*0\.00%
conv .*f32\[1,32,16,16\] .*8192 .*1769472 .*1\.7 Mi .*24\.60% #####
conv .*f32\[1,32,14,14\] .*6272 .*1806336 .*1\.7 Mi .*25\.11% #####
conv .*f32\[1,64,5,5\] .*1600 .*460800 .*450\.0 Ki .*6\.41% ##
matmul .*f32\[1,512\] .*512 .*819712 .*800\.5 Ki .*11\.39% #####
matmul .*f32\[1,10\] .*10 .*5130 .*5\.0 Ki .*0\.07%
total .*7194250 .*6\.9 Mi
ROWS
check "inspect: the tables of S21" sh -c "$qcc inspect $root/tests/driver/alexnet_like.qir >tables &&
  while read -r row; do grep -q \"\$row\" tables || exit 1; done <s21"
check "inspect --json: totals of S21" sh -c "$qcc inspect --json $root/tests/driver/alexnet_like.qir |
  grep -q '\"parameters\":861354,\"macs\":7193728,\"ops\":7194250,'"
check "--prune" sh -c "$qcc $model -o m.o --prune=0.9:force --report=r.txt --report=r.html && grep -q 'pruned .*not 0' r.txt &&
  grep -q '<svg' r.html"
check "--share" sh -c "$qcc $model -o m.o --share=kmeans:levels=16:force --report=r.txt --report=r.json --report=r.html &&
  grep -q 'shared .*16 different weights' r.txt && grep -q '\"levels\":16,\"distinct\":16,' r.json && grep -q 'Shared weights' r.html"
check "--share keeps what would be slower" sh -c "$qcc $model -o m.o --share=log --report=r.txt && grep -q 'shared .*kept: log, 4 bits would take' r.txt"
# Constants of a network with few values, against bits * weights / 8 + scales or book, within 2 %.
cat >square.qir <<'TEXT'
const @w: f32[512,512] = rand(11)
func @f(%a: f32[1,512]) -> f32[1,512] {
  %0 = matmul %a, @w : f32[1,512]
  return %0
}
TEXT
cat >taps.qir <<'TEXT'
const @w: f32[128,128,3,3] = rand(11)
func @f(%a: f32[1,128,8,8]) -> f32[1,128,8,8] {
  %0 = conv %a, @w {pads = [1, 1, 1, 1]} : f32[1,128,8,8]
  return %0
}
TEXT
while read -r net scheme bytes; do
  check "size of $scheme" sh -c "$qcc $net.qir --optimize=size --share=$scheme:force -o m.o --report=r.txt &&
    n=\$(sed -n 's/^constants \([0-9]*\) bytes.*/\1/p' r.txt) && echo \"\$n for $bytes\" >err &&
    [ \$((n * 100)) -le \$(($bytes * 102)) ] && [ \$((n * 100)) -ge \$(($bytes * 98)) ]"
done <<ROWS
square symmetric:bits=8:channel $((512 * 512 + 4 * 512))
square symmetric:bits=6:channel $((512 * 512 * 6 / 8 + 4 * 512))
square symmetric:bits=5:channel $((512 * 512 * 5 / 8 + 4 * 512))
square symmetric:bits=4:channel $((512 * 512 * 4 / 8 + 4 * 512))
square symmetric:bits=3:channel $((512 * 512 * 3 / 8 + 4 * 512))
square symmetric:bits=2:channel $((512 * 512 * 2 / 8 + 4 * 512))
square ternary:channel $((512 * 512 * 2 / 8 + 4 * 512))
taps kmeans:levels=16 $((128 * 128 * 9 * 4 / 8 + 4 * 16))
square kmeans:levels=256 $((512 * 512 + 4 * 256))
square pq:levels=64:width=8:rounds=2 $((512 * 512 / 8 + 4 * 64 * 8))
taps kmeans:levels=256 $((128 * 128 * 9 + 4 * 256))
ROWS
ends 2 1 "knows no weight scheme 'wrong'" "$qcc" "$model" -o m.o --share=wrong
ends 2 1 "has 2 to 8 bits, not 9" "$qcc" "$model" -o m.o --share=affine:bits=9
ends 2 1 "no layer" "$qcc" "$model" -o m.o --share=kmeans:nothing
ends 2 1 "--weights wants" "$qcc" "$model" -o m.o --weights=else
ends 2 1 "--prune wants" "$qcc" "$model" -o m.o --prune=5:4
ends 2 1 "no layer" "$qcc" "$model" -o m.o --prune=0.5:nothing
# Samples: the ten digits of the example as floats in 0 .. 1, made by qcc itself.
mkdir samples
{
  printf '\223NUMPY\001\000v\000'
  printf '%-117s\n' "{'descr': '|u1', 'fortran_order': False, 'shape': (10, 1, 28, 28), }"
  cat "$root/examples/digits/digits.bin"
} >pixels.npy
cat >scale.qir <<'TEXT'
func @scale(%x: u8[10,1,28,28]) -> f32[10,1,28,28] "images" {
  %0 = cast %x : f32[10,1,28,28]
  %1 = div %0, f32(255) : f32[10,1,28,28]
  return %1
}
TEXT
check "samples" sh -c "$qcc run scale.qir --input pixels.npy --save samples"
check "--quantize" sh -c "$qcc $model --quantize=int8 --target=zen4 --calibrate=samples -o m.o --report=r.txt &&
  [ \$(grep -c 'quantised *weights symmetric, 8 bits' r.txt) -ge 4 ] && grep -q 'W32A32  *W8A8' r.txt"
check "verify --quantize" sh -c "$qcc verify $model --quantize=w4a8 --calibrate=samples/images.npy | grep -q 'verify: ok'"
{
  printf '\223NUMPY\001\000v\000'
  printf '%-117s\n' "{'descr': '|u1', 'fortran_order': False, 'shape': (10,), }"
  printf '\007\002\001\000\004\011\005\003\006\010'
} >samples/labels.npy
check "--max-error=accuracy" sh -c "$qcc $model --quantize=w4a8 --max-error=accuracy:0.001,network:0.09 --optimize=size \
  --calibrate=samples -o m.o --save-policy=p.json --report=r.txt --report=r.html --report=r.json &&
  grep -q '^as asked for .* 10$' r.txt && grep -q '<circle' r.html && grep -q '\"quantised\"' r.json"
check "W.A of quantised layers" sh -c "$qcc $model --quantize=w4a8:all:force --calibrate=samples -o m.o --report=r.json &&
  grep -q '\"w_a\":32,' r.json && $qcc $model --quantize=w4:all:force -o m.o --report=r.json && grep -q '\"w_a\":128,' r.json"
check "--policy" sh -c "$qcc $model --policy=p.json --calibrate=samples -o m.o --save-policy=again.json && cmp p.json again.json"
ends 2 1 "is no policy" "$qcc" "$model" -o box/m.o --policy=r.txt --calibrate=samples
ends 2 1 "needs labels.npy" "$qcc" "$model" -o box/m.o --quantize=int8 --max-error=accuracy:0.1 --calibrate=samples/images.npy
ends 2 1 "needs samples" "$qcc" "$model" -o box/m.o --quantize=int8
ends 4 1 "can't read" "$qcc" "$model" -o box/m.o --quantize=int8 --calibrate=nosuch
ends 1 1 "normalised as the network expects" "$qcc" "$model" -o box/m.o --quantize=int8 --calibrate=pixels.npy
ends 2 1 "--quantize wants" "$qcc" "$model" -o box/m.o --quantize=w9a8
ends 2 1 "has such a name" "$qcc" "$model" -o box/m.o --quantize=int8:nosuch --calibrate=samples
check "opt" sh -c "$qcc opt --passes=dce back.qir | grep -q '^func'"

# ---- help and manual know every option and command of the table
options=$(sed -n 's/^OPTION([a-z_]*, "\([^"]*\)".*/\1/p' "$root/frontend/options.def")
check "the table was read" sh -c "[ $(echo "$options" | wc -l) -ge 30 ]"
"$qcc" --help >help 2>err
"$qcc" --man >man 2>>err
for option in $options; do
  check "--help has $option" grep -q -e "^  $option\b" help
  check "--man has $option" grep -q -F -e "$(echo "$option" | sed 's/-/\\-/g')" man
done
for command in run verify bench inspect opt; do
  check "--help has $command" grep -q "^qcc $command " help
  check "--man has $command" grep -q "qcc $command " man
  check "$command --help" sh -c "$qcc $command --help | grep -q '^qcc $command '"
done
if command -v man >/dev/null; then check "the manual formats" sh -c "man --warnings -l man 2>&1 >/dev/null | diff - /dev/null"; fi
check "--version" sh -c "$qcc --version | grep -qE '^qcc [0-9]+\.[0-9]+\.[0-9]+$'"
check "--list-targets" sh -c "$qcc --list-targets | grep -q x86-64-v3"
check "--list-ops" sh -c "$qcc --list-ops | grep -q '^Conv, opset'"
check "--print-pipeline" sh -c "$qcc --print-pipeline | grep -q lower"

# ---- 1: refused
head -c 100 "$model" >cut.onnx
echo 'not a model' >text.onnx
: >empty.onnx
echo 'func @f(%x: f32[2]) -> f32[2] { %0 = nonsense %x : f32[2] return %0 }' >bad.qir
ends 1 + cut.onnx "$qcc" cut.onnx -o box/m.o
ends 1 + text.onnx "$qcc" text.onnx -o box/m.o
ends 1 + empty.onnx "$qcc" empty.onnx -o box/m.o
ends 1 + 'bad.qir:1:' "$qcc" bad.qir -o box/m.o
ends 1 1 "input 0 is" "$qcc" run "$model" --input "$(ls saved/*.npy | head -n 1)"

# ---- 2: usage; one line each
ends 2 + usage\\\|qcc "$qcc"
ends 2 1 --wibble "$qcc" --wibble
ends 2 1 'no output' "$qcc" "$model"
ends 2 1 'more than one' "$qcc" "$model" b.onnx -o box/m.o
ends 2 1 'wants a value' "$qcc" "$model" -o
ends 2 1 'takes no value' "$qcc" "$model" -o box/m.o --man=1
ends 2 1 'does not belong' "$qcc" run "$model" -o box/m.o
ends 2 1 'model itself' "$qcc" "$model" -o "$model"
ends 2 1 header "$qcc" "$model" -o box/m.h
ends 2 1 emit "$qcc" "$model" -o box/m.o --emit=exe
ends 2 1 x86-64-v3 "$qcc" "$model" -o box/m.o --target=vax
ends 2 1 "wants pic or static, not 'dyn'" "$qcc" "$model" -o box/m.o --relocation=dyn
ends 2 1 "small, medium or large, not 'tiny'" "$qcc" "$model" -o box/m.o --code-model=tiny
ends 2 1 "wants soft or hard, not 'softfp'" "$qcc" "$model" -o box/m.o --float-abi=softfp --target=armv7a
ends 2 1 "ARM targets of 32 bits, not of x86-64-v3" "$qcc" "$model" -o box/m.o --float-abi=soft --target=x86-64-v3
ends 2 1 "cortex-m4 has no float registers" "$qcc" "$model" -o box/m.o --float-abi=hard --target=cortex-m4
ends 2 1 "cortex-m4 have no loader" "$qcc" "$model" -o box/m.o --relocation=pic --target=cortex-m4
ends 2 1 "armv7a has no code models" "$qcc" "$model" -o box/m.o --code-model=small --target=armv7a
ends 2 1 "choice of x86-64, not of armv8-a" "$qcc" "$model" -o box/m.o --code-model=medium --target=armv8-a
ends 2 1 "on armv8-a needs --relocation=static" "$qcc" "$model" -o box/m.o --code-model=large --target=armv8-a
ends 2 1 "elf, coff or macho, not 'pe'" "$qcc" "$model" -o box/m.o --format=pe
ends 2 1 "x86-64 and aarch64, not of cortex-m4" "$qcc" "$model" -o box/m.o --format=coff --target=cortex-m4
ends 2 1 "position independent and small" "$qcc" "$model" -o box/m.o --format=macho --target=x86-64-v3 --relocation=static
ends 2 1 "what aarch64-dotprod needs" "$qcc" "$model" -o box/m.o --format=macho --target=aarch64
ends 2 1 "its tile registers" "$qcc" "$model" -o box/m.o --format=coff --target=sapphire-rapids
ends 2 1 "reads the code of ELF objects" "$qcc" "$model" -o box/m.o --format=coff --target=x86-64-v3 --require=no-float
ends 2 1 strict "$qcc" "$model" -o box/m.o --fp=exact
ends 2 1 "no faster than f32" "$qcc" "$model" -o box/m.o --fp=bf16 --target=x86-64-v3
ends 2 1 tolerate "$qcc" "$model" -o box/m.o --tolerate=1
ends 2 1 NAME=NUMBER "$qcc" "$model" -o box/m.o --dim N
ends 2 1 NAME=NUMBER "$qcc" "$model" -o box/m.o --dim N=-1
ends 2 1 input-shape "$qcc" "$model" -o box/m.o --input-shape x
ends 2 1 sizes "$qcc" "$model" -o box/m.o --input-shape x=1,a
ends 2 1 NAME=FILE "$qcc" "$model" -o box/m.o --bind x
ends 2 1 'on or off' "$qcc" "$model" -o box/m.o --external-data=perhaps
ends 2 1 fold-limit "$qcc" "$model" -o box/m.o --fold-limit=0
ends 2 1 max-nodes "$qcc" "$model" -o box/m.o --max-nodes=x
ends 2 1 nosuchpass "$qcc" "$model" -o box/m.o --passes=nosuchpass
ends 2 1 threads "$qcc" bench "$model" --threads=0
ends 2 1 iterations "$qcc" bench "$model" --iterations=x
ends 2 1 break-even "$qcc" bench --suite=nonsense
ends 2 1 missing "$qcc" run "$model"
ends 2 1 'no input file' "$qcc" verify

# ---- 3: unsupported, every node listed in one run
unsupported=$root/tests/driver/unsupported.onnx
for word in fancy_1 fancy_2 nms acme:FancyOp NonMaxSuppressionX; do ends 3 2 "$word" "$qcc" "$unsupported" -o box/m.o; done

# ---- 3: a rule is not kept; the layers that break it are listed
ends 3 + 'on floats' "$qcc" "$model" -o box/m.o --report box/r.txt --require=integer
ends 3 + "runs as fma" "$qcc" "$model" -o box/m.o --require=dot8
ends 3 1 "runs as dot8" "$qcc" int.qir -o box/m.o --require=planes
ends 2 1 'rules are integer' "$qcc" "$model" -o box/m.o --require=fast
ends 2 1 'no layer fits' "$qcc" "$model" -o box/m.o '--require=integer:nowhere*'

# ---- 4: files. Root may write anywhere, so the folders are ones where nobody can.
mkdir folder.o folder.h
mkfifo fifo.o fifo.onnx
ends 4 1 'No such file' "$qcc" absent.onnx -o box/m.o
ends 4 1 . "$qcc" "$root" -o box/m.o
ends 4 1 . timeout 10 "$qcc" fifo.onnx -o box/m.o
ends 4 1 absent "$qcc" "$model" -o absent/m.o
ends 4 1 /proc "$qcc" "$model" -o /proc/m.o
ends 4 1 'regular file' "$qcc" "$model" -o /dev/full
ends 4 1 'regular file' "$qcc" "$model" -o folder.o
ends 4 1 'regular file' timeout 10 "$qcc" "$model" -o fifo.o
ends 4 1 'folder.h' "$qcc" "$model" -o folder
check "the object of a failed header is not there" test ! -e folder
ends 4 1 'standard output' sh -c "$qcc --help >/dev/full"
ends 4 1 'standard output' sh -c "$qcc $model --emit=kir >/dev/full"
ends 4 1 'box/m' sh -c "ulimit -f 8; $qcc $model -o box/m.o"
ends 4 1 absent "$qcc" run "$model" --input absent.npy
ends 4 1 absent "$qcc" "$model" -o box/m.o --bind input=absent.pb
ends 4 1 absent "$qcc" verify "$model" --data absent

# ---- 5: limits
ends 5 1 max-nodes "$qcc" "$model" -o box/m.o --max-nodes=3

# ---- 70: code generation is killed: one line that says so, no files
kill_child() {
  rm -rf box
  mkdir box
  "$qcc" "$model" -o box/m.o 2>killed &
  pid=$!
  child=
  while [ -z "$child" ] && [ -d /proc/$pid ]; do read -r child </proc/$pid/task/$pid/children || :; done 2>/dev/null
  [ -n "$child" ] && kill -KILL $child 2>/dev/null
  wait $pid
  got=$?
}
got=0
for attempt in 1 2 3 4 5 6 7 8 9 10; do
  kill_child
  [ $got -ne 0 ] && break
done
check "code generation killed: exit 70, not $got" test $got -eq 70
check "code generation killed: says so" grep -q 'internal error: code generation' killed
check "code generation killed: no files" sh -c '[ -z "$(ls -A box)" ]'

# ---- signals: at whatever moment they come, both files are there or none and no temporary
cat >large.qir <<'END'
const @w: f32[4096,4096] = rand(1)

func @f(%x: f32[1,4096]) -> f32[1,4096] {
  %0 = matmul %x, @w : f32[1,4096]
  return %0
}
END
check "compile 64 MiB" "$qcc" large.qir -o large.o
interrupted=0
bad=0
for signal in INT TERM; do
  for delay in 0.05 0.1 0.15 0.2 0.25 0.3 0.35 0.4 0.5 0.6; do
    rm -rf box
    mkdir box
    timeout -s $signal $delay "$qcc" large.qir -o box/m.o 2>/dev/null
    [ $? -eq 124 ] && interrupted=$((interrupted + 1))
    case $(cd box && echo *) in '*' | 'm.h m.o') ;; *) bad=$((bad + 1)) ;; esac
  done
done
check "$bad of 20 interrupted runs left something behind" test $bad -eq 0
check "runs were interrupted" test $interrupted -gt 3

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
