#!/bin/sh
# What a reader may rely on in every file: a comment at its top that says what it is, formatted text (when clang-format-19 is
# there), no left-overs, no paths of somebody's machine, sizes a person can read.
cd "$(dirname "$0")/.." || exit 1
passed=0
failed=0

# check NAME HITS: nothing may be hit.
check() {
  if [ -z "$2" ]; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    printf 'FAIL %s:\n%s\n' "$1" "$2"
  fi
}

source_files() { find backends frontend ir passes runtime tests examples cmake -type f \( -name '*.c' -o -name '*.h' -o -name '*.def' -o -name '*.sh' \); }
left_over='TO''DO|FIX''ME|not imple''mented|place''holder|lorem ip''sum'
check "left-overs" "$(source_files | xargs grep -nE "$left_over")"
machine_path='/ho''me/[a-z]|/wo''rk/|/ro''ot/'
check "paths of a machine" "$(source_files | xargs grep -nE "$machine_path")"
check "files above 1000 lines" "$(source_files | xargs wc -l | awk '$1 > 1000 && $2 != "total"')"
check "lines above 120 columns" "$(source_files | grep -E '\.[ch]$' | xargs awk 'length($0) > 120 {print FILENAME ":" FNR}')"
check "trailing blanks" "$(source_files | xargs grep -nE '[[:blank:]]+$')"
check "no comment at the top" "$(source_files | grep -E '\.([ch]|def)$' | while read -r f; do
  head -n 1 "$f" | grep -qE '^(//|/\*)' || echo "$f"
done)"
if command -v clang-format-19 >/dev/null; then
  check "clang-format" "$(source_files | grep -E '\.[ch]$' | xargs clang-format-19 --dry-run -Werror 2>&1 | grep ': error: ')"
fi
if git rev-parse >/dev/null 2>&1; then
  folders='backends|cmake|docs|examples|frontend|ir|passes|runtime|tests|\.ci'
  check "files outside the folders" "$(git ls-files | grep -vE "^($folders)/|^(\.gitignore|\.clang-format|CMakeLists.txt|CMakePresets.json|README.md|LICENSE)\$")"
fi
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
