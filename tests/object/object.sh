#!/bin/sh
# The promises about compiled objects (design section 7), on two small networks: what tools see in the object, how it
# links, which compilers accept the header, what a program that runs it sees, and that building is reproducible.
#
#   sh tests/object/object.sh BUILD_DIR     the last line is "N passed, N failed"
set -u
build=$(cd "$1" && pwd)
root=$(cd "$(dirname "$0")/../.." && pwd)
here=$root/tests/object
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0
failed=0

# check NAME COMMAND...: the command must succeed.
check() {
  name=$1
  shift
  if "$@" >"$work/log" 2>&1; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    echo "FAIL $name"
    head -n 12 "$work/log"
  fi
}

finish() {
  echo "$passed passed, $failed failed"
  [ "$failed" -eq 0 ]
  exit
}

cd "$work" || exit 1
check "compile a" "$build/qcc" "$here/a.qir" --name a -o a.o
check "compile b_2" "$build/qcc" "$here/b.qir" --name b_2 -o b_2.o
[ "$failed" -eq 0 ] || finish

# ---- what the object contains
only_allowed_undefined() { ! nm -u "$1" | grep -vE '^ *U (memcpy|memset|memmove)$'; }
exports_exactly() {
  nm -g --defined-only "$1" | awk '{print $3}' | sort >got
  printf '%s_init\n%s_model\n%s_run\n' "$2" "$2" "$2" | sort | diff - got
}
no_writable_sections() { ! readelf -SW "$1" | sed 's/^ *\[ *[0-9]*\] *//' | grep -E ' WAT? | WA ' | grep -v '^\.data\.rel\.ro '; }
no_start_code() { ! readelf -SW "$1" | grep -E '\.(init_array|fini_array|ctors|dtors|tdata|tbss|bss|data) '; }
no_relocated_weights() { ! readelf -SW "$1" | grep -E '\.rela\.rodata'; }
for m in a:a b_2:b__2; do
  o=${m%%:*}.o
  p=${m##*:}
  check "$o undefined symbols" only_allowed_undefined "$o"
  check "$o exports" exports_exactly "$o" "$p"
  check "$o writable sections" no_writable_sections "$o"
  check "$o start code" no_start_code "$o"
  check "$o relocations of constants" no_relocated_weights "$o"
done

# ---- a binary network computes with floats only where its file asks for floats: in the scores of the last layer
only_scores_float() { # TARGET
  "$build/qcc" "$here/float_free.qir" --name f -o f.o --target="$1" --require=no-float 2>breaks
  [ $? -eq 3 ] && [ "$(wc -l <breaks)" -eq 1 ] && grep -q "layer 'last'" breaks || { cat breaks; return 1; }
}
for target in zen5 icelake x86-64-v3 x86-64-v2 aarch64-dotprod; do
  check "float_free.qir is free of floats on $target" only_scores_float "$target"
done
check "float_free.qir is integer" "$build/qcc" "$here/float_free.qir" -o f.o --require=integer --require='no-float:act*'
multiplies() { ! "$build/qcc" "$here/float_free.qir" -o f.o --require=no-multiply 2>breaks && grep -q "layer 'act1'.*'.*mul\|vpdp" breaks; }
check "a multiplication is found" multiplies

# ---- a network of bytes calls for no float arithmetic where a core has none, nor for doubles where it has only floats
asks_for_none() { # TARGET TYPES
  "$build/qcc" "$here/bytes.qir" --name f -o f.o --target="$1" && readelf -sW f.o >symbols && ! grep -E "UND __aeabi_([$2]|[iul]+2[$2])" symbols
}
for target in cortex-m0plus cortex-m3 cortex-m4; do check "bytes.qir is free of floats on $target" asks_for_none $target fd; done
for target in cortex-m4f cortex-m7 cortex-m33; do check "bytes.qir is free of doubles on $target" asks_for_none $target d; done
asks() { "$build/qcc" "$here/a.qir" --name f -o f.o --target=cortex-m3 && readelf -sW f.o | grep -q "UND __aeabi_f"; }
check "a call for float arithmetic is found" asks

# ---- the other outputs: assembly gives the same interface, LLVM IR is whole
assembly() {
  "$build/qcc" "$here/a.qir" --name a --emit=asm -o a.s && gcc -c a.s -o from_asm.o && exports_exactly from_asm.o a &&
    only_allowed_undefined from_asm.o
}
check "assembly" assembly
check "LLVM IR" "$build/qcc" "$here/a.qir" --name a --emit=ll -o a.ll
if command -v opt-19 >/dev/null; then check "LLVM IR verifies" opt-19 -passes=verify -disable-output a.ll; fi

# ---- linking: alone, shared, static, hardened
echo 'int main(void) { return 0; }' >empty.c
check "shared object without text relocations" gcc -shared -Wl,-z,text,-z,defs -o liba.so a.o
check "position independent program" gcc -pie -Wl,-z,text -o pie empty.c a.o b_2.o
check "static program" gcc -static -o static empty.c a.o b_2.o
check "static position independent program" gcc -static-pie -Wl,-z,text -o static_pie empty.c a.o b_2.o
cat >bare.c <<'END'
/* A program without any library: the three functions an object may ask for, and an entry. */
typedef __SIZE_TYPE__ size_t;
void *memcpy(void *to, const void *from, size_t n) {
  for (size_t i = 0; i < n; i++) ((char volatile *)to)[i] = ((const char *)from)[i];
  return to;
}
void *memset(void *to, int byte, size_t n) {
  for (size_t i = 0; i < n; i++) ((char volatile *)to)[i] = (char)byte;
  return to;
}
void *memmove(void *to, const void *from, size_t n) {
  char volatile *t = to;
  const char *f = from;
  if (t < f)
    for (size_t i = 0; i < n; i++) t[i] = f[i];
  else
    while (n--) t[n] = f[n];
  return to;
}
extern const int a_model, b__2_model;
void _start(void) {
  for (;;) *(const void *volatile *)memset(0, a_model, (size_t)b__2_model) = 0;
}
END
check "program without libraries" gcc -nostdlib -nostartfiles -static -ffreestanding -o bare bare.c a.o b_2.o
if [ "$(uname -m)" = x86_64 ]; then
  check "control-flow protection kept" gcc -fcf-protection=full -shared -nostdlib -Wl,-z,cet-report=error -o cet.so a.o
fi
stack_not_executable() { gcc -pie -o nx empty.c a.o && ! readelf -lW nx | grep GNU_STACK | grep -q E; }
check "stack not executable" stack_not_executable
no_paths() { ! strings "$1" | grep -F -e "$work" -e "$root"; }
check "no paths in the object" no_paths a.o

# ---- relocation and code models: what links and gives the same bytes, and how it reaches code and weights
relocates() { # relocation types that must be there, MODEL RELOCATION TYPE
  readelf -rW "m_$1_$2.o" | grep -q "$3"
}
if [ "$(uname -m)" = x86_64 ]; then
  check "compile for x86-64-v2" "$build/qcc" "$here/a.qir" --name a --target=x86-64-v2 -o a_v2.o
  for model in small medium large; do
    for relocation in pic static; do
      o=m_${model}_$relocation.o
      check "compile $o" "$build/qcc" "$here/a.qir" --name a_2 --target=x86-64-v2 --code-model=$model --relocation=$relocation -o $o
      [ $relocation = pic ] && link="-pie -Wl,-z,text" || link=-no-pie
      check "link $o" gcc $link -I"$root" "$here/same.c" a_v2.o $o -o same
      check "run $o" ./same
    done
    check "$model shared object" gcc -shared -Wl,-z,text,-z,defs -o m.so m_${model}_pic.o
  done
  check "static tables are not writable" sh -c "! readelf -SW m_small_static.o | grep -q 'data.rel.ro'"
  check "small reaches by 32 bits" sh -c "! readelf -rW m_small_static.o | grep 'weights\|_k_' | grep -q R_X86_64_64"
  check "medium reaches weights by 64 bits" relocates medium static 'R_X86_64_64 .*weights'
  check "large position independent" relocates large pic R_X86_64_GOTPC64
  check "large weights are apart" sh -c "readelf -SW m_medium_pic.o | grep -q 'lrodata.qcc .* Al'"
  check "medium assembly" sh -c "'$build/qcc' '$here/a.qir' --name a_2 --target=x86-64-v2 --code-model=medium --emit=asm -o m.s && gcc -no-pie -I'$root' '$here/same.c' a_v2.o m.s -o same && ./same"
fi
check "large on aarch64" "$build/qcc" "$here/a.qir" --target=armv8-a --code-model=large --relocation=static -o m_a64_static.o
check "large on aarch64 builds addresses in parts" relocates a64 static R_AARCH64_MOVW_UABS_G3
for t in armv7a cortex-m4f; do
  check "soft on $t" "$build/qcc" "$here/a.qir" --target=$t --float-abi=soft -o m_${t}_soft.o
  check "hard on $t" "$build/qcc" "$here/a.qir" --target=$t --float-abi=hard -o m_${t}_hard.o
  check "soft on $t is marked so" sh -c "! readelf -A m_${t}_soft.o | grep -q Tag_ABI_VFP_args"
  check "hard on $t is marked so" sh -c "readelf -A m_${t}_hard.o | grep -q Tag_ABI_VFP_args"
done

# ---- objects for Windows and macOS: what LLVM's own tools see in them
foreign() { # FORMAT TARGET TYPE
  "$build/qcc" "$here/a.qir" --name a --format=$1 --target=$2 -o f_$1_$2.o &&
    llvm-readobj-19 -h f_$1_$2.o | grep -q "^Format: $3"
}
# Symbols but those that a format brings along.
names() { llvm-nm-19 "$@" | awk '{print $NF}' | grep -vE '^(__(real|[xyz]mm)@|@feat.00|_fltused|l|L)' | sort; }
foreign_names() { # OBJECT PREFIX
  ! names -u "$1" | grep -vE "^$2(memcpy|memset|memmove)\$" &&
    names -g --defined-only "$1" | diff - "$work/foreign_$2"
}
printf 'a_init\na_model\na_run\n' | sort >foreign_
printf '_a_init\n_a_model\n_a_run\n' | sort >foreign__
no_writes() { # sections that can be written to have no contents
  ! llvm-readobj-19 -S "$1" | awk '/Name:/ {n = $2} /RawDataSize:/ {size = $2} /MEM_WRITE/ && size + 0 > 0 {print n}
    /Segment: __DATA/ && n != "__const" {print n}' | grep .
}
if command -v llvm-readobj-19 >/dev/null && command -v llvm-nm-19 >/dev/null; then
  for t in x86-64-v3:x86-64:x86-64 armv8-a:ARM64:arm64; do
    level=${t%%:*}
    types=${t#*:}
    check "COFF for $level" foreign coff $level COFF-${types%:*}
    check "Mach-O for $level" foreign macho $level "Mach-O.*${types#*:}"
    for f in coff: macho:_; do
      check "names of ${f%:*} for $level" foreign_names f_${f%:*}_$level.o "${f#*:}"
      check "sections of ${f%:*} for $level" no_writes f_${f%:*}_$level.o
    done
    check "disassembly of COFF for $level" sh -c "llvm-objdump-19 -d f_coff_$level.o | grep -q 'a_run>:' && ! llvm-objdump-19 -d f_coff_$level.o | grep -q '<unknown>'"
  done
  check "Windows calling convention" sh -c "llvm-objdump-19 -d --disassemble-symbols=a_run f_coff_x86-64-v3.o | grep -q 'movq.*%rcx, .*%rsp'"
  check "unwind tables for Windows" sh -c "llvm-readobj-19 -S f_coff_x86-64-v3.o | grep -q 'Name: .pdata'"
fi

# ---- the header, in every language standard of every compiler that is here
for cc in gcc clang-19 clang; do
  command -v $cc >/dev/null || continue
  for std in c89 c99 c11 c17 c2x; do
    check "header $cc -std=$std" sh -c "printf '#include \"a.h\"\n#include \"b_2.h\"\n#include \"runtime/qcc_rt.h\"\nint main(void) { return QCC_OK; }\n' | $cc -std=$std -I. -I$root -Wall -Wextra -Wpedantic -Werror -x c -fsyntax-only -"
  done
  for std in c++98 c++11 c++14 c++17 c++20 c++2b; do
    check "header $cc -std=$std" sh -c "printf '#include \"runtime/qcc_rt.h\"\n#include \"a.h\"\n#include \"b_2.h\"\nint main() { return QCC_OK; }\n' | $cc -std=$std -I. -I$root -Wall -Wextra -Wpedantic -Werror -x c++ -fsyntax-only -"
  done
done

# ---- a hostile graph: names of the model that are C text, keywords, format strings, other scripts
check "compile hostile names" "$build/qcc" "$here/names.onnx" --name "class; */ int" -o names.o
check "header of hostile names, C" sh -c "echo '#include \"names.h\"' | gcc -std=c99 -Wall -Wextra -Wpedantic -Werror -x c -fsyntax-only -I. -"
check "header of hostile names, C++" sh -c "echo '#include \"names.h\"' | g++ -std=c++17 -Wall -Wextra -Wpedantic -Werror -x c++ -fsyntax-only -I. -"
check "symbols of hostile names" sh -c "! nm names.o | awk '{print \$NF}' | grep -vE '^[A-Za-z_.][A-Za-z0-9_.]*$'"

# ---- weights in a file of their own: an object without any, checked by init_weights
check "extern" "$build/qcc" "$here/a.qir" --name ax --weights=extern -o ax.o
sed 's/rand(1)/rand(11)/; s/rand(3)/rand(13)/' "$here/a.qir" >other.qir
check "extern, another training" "$build/qcc" other.qir --name ax --weights=extern -o other.o
check "extern, another network" "$build/qcc" "$here/b.qir" --name ax --weights=extern -o foreign.o
check "packed" "$build/qcc" "$here/a.qir" --name ax --weights=packed -o packed.o
check "the same code for both files" cmp ax.o packed.o
check "the same code for both trainings" cmp ax.o other.o
check "extern undefined symbols" only_allowed_undefined ax.o
check "extern writable sections" no_writable_sections ax.o
check "extern is an option of objects" sh -c "! '$build/qcc' '$here/a.qir' --weights=extern --emit=asm -o ax.s"
check "compile the program with a file" gcc -std=c11 -O1 -Wall -Wextra -Werror -I. -I"$root" \
  "$here/extern.c" "$root/runtime/rt_weights.c" a.o ax.o -o extern
check "run the program with a file" ./extern ax.weights other.weights foreign.weights packed.weights

# ---- running
check "compile the test program" gcc -std=c11 -O1 -Wall -Wextra -Werror -I. -I"$root" "$here/promises.c" \
  "$root/runtime/rt_status.c" "$root/runtime/rt_thread.c" a.o b_2.o -pthread -o promises
if [ -x promises ]; then
  timeout 120 ./promises >out 2>&1
  code=$?
  cat out
  line=$(tail -n 1 out | grep -E '^[0-9]+ passed, [0-9]+ failed$')
  if [ -n "$line" ]; then
    passed=$((passed + $(echo "$line" | cut -d' ' -f1)))
    failed=$((failed + $(echo "$line" | cut -d' ' -f3)))
  else
    echo "FAIL the test program ended with status $code"
    failed=$((failed + 1))
  fi
fi

# ---- reproducible: another folder, locale, time zone and environment; other names for the same file
mkdir -p deep/er
cp "$here/a.qir" deep/er/copy.qir
(cd deep/er && env -i LC_ALL=C TZ=Asia/Tokyo HOME=/nonexistent "$build/qcc" "$here/a.qir" --name a -o out.o) >/dev/null 2>&1
check "same object from another folder" cmp a.o deep/er/out.o
check "same header from another folder" cmp a.h deep/er/out.h
for t in x86-64-v2 x86-64-v3 x86-64-v4 zen4 sapphire-rapids aarch64 aarch64-dotprod; do
  check "compile for $t" "$build/qcc" "$here/a.qir" --name a --target=$t -o $t.o
done
unknown_target() { "$build/qcc" "$here/a.qir" --target=rocketlake -o no.o 2>msg; [ $? -eq 2 ] && grep -q x86-64-v3 msg && [ ! -e no.o ]; }
check "unknown target lists the rows" unknown_target
finish
