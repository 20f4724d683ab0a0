#!/bin/sh
# Dependencies point one way: runtime <- nothing; ir <- libc; passes <- ir; frontend <- ir, protobuf-c; backends <- ir, LLVM,
# runtime's header; only frontend/driver sees all. Libraries likewise: LAPACKE in passes/compress, JSON in the driver.
cd "$(dirname "$0")/.." || exit 1
bad=0
passed=0
check() {
  folder=$1
  allowed=$2
  skip=$3
  hits=$(grep -rnE '^#include "' "$folder" --include='*.c' --include='*.h' --include='*.def' | grep -v "^$skip" |
    grep -vE "#include \"($allowed)" || true)
  if [ -n "$hits" ]; then
    printf 'FAIL %s may include only %s:\n%s\n' "$folder" "$allowed" "$hits"
    bad=$((bad + 1))
  else
    passed=$((passed + 1))
  fi
}
check runtime 'runtime/|status.def"' none
check ir 'ir/' none
check passes '(ir|passes)/' none
check backends '(ir|backends|runtime)/|qcc_rt_text.h"' none
check frontend '(ir|frontend)/|onnx.pb-c.h' frontend/driver/
hits=$(grep -rlE 'llvm-c/|protobuf-c|pb-c.h' ir passes runtime || true)
if [ -n "$hits" ]; then
  echo "FAIL LLVM or protobuf headers outside their folders: $hits"
  bad=$((bad + 1))
else
  passed=$((passed + 1))
fi
hits=$(grep -rlE '<(lapacke|cblas).*\.h>' . --include='*.c' --include='*.h' | grep -vE '^\./(build|passes/compress|tests)/'
  grep -rlE '<cJSON.h>|<cjson/' . --include='*.c' --include='*.h' | grep -vE '^\./(build|frontend/driver|tests)/')
if [ -n "$hits" ]; then
  echo "FAIL linear algebra outside passes/compress, or JSON outside frontend/driver: $hits"
  bad=$((bad + 1))
else
  passed=$((passed + 1))
fi
echo "$passed passed, $bad failed"
[ $bad -eq 0 ]
