#!/bin/sh
# `qcc verify` of every model whose row in the list is marked so: each layer within the gate of its op class, the whole
# network within its gate, against the interpreter and the recorded outputs.
#
#   sh tests/models/verify.sh QCC LIST.tsv ROOT
qcc=$1
list=$2
root=$3
passed=0
failed=0
for name in $(awk -F '\t' '$2 == "pass" && $6 == "verify" { print $1 }' "$list"); do
  if out=$("$qcc" verify "$root/$name/model.onnx" --data "$root/$name" 2>&1); then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    echo "FAIL $name"
    echo "$out" | grep -E 'WRONG|error|:' | head -n 4
  fi
done
echo "$passed passed, $failed failed"
[ $failed -eq 0 ] && [ $passed -gt 0 ]
