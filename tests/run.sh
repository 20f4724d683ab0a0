#!/bin/sh
# Sets up, builds and tests everything. The last line counts every test: "N passed, N failed".
#
#   sh tests/run.sh            all of it
#   sh tests/run.sh quick      unit and golden tests of the sanitized build only
#
# The wide suites are read from $QCC_SHARED (default ../shared). Without it the small cases of the repository are run; with
# CI=true its absence is a failure.
set -u
cd "$(dirname "$0")/.." || exit 1
root=$(pwd)
. cmake/setup.sh
qcc_packages="$qcc_packages qemu-user gcc-aarch64-linux-gnu libc6-dev-arm64-cross gcc-arm-linux-gnueabihf libc6-dev-armhf-cross gcc-arm-none-eabi qemu-system-arm"
qcc_setup || exit 1

shared=${QCC_SHARED:-$root/../shared}
[ -d "$shared" ] && shared=$(cd "$shared" && pwd)
export QCC_SHARED="$shared"
jobs=$(nproc)
passed=0
failed=0
log=$root/build/test-logs
mkdir -p "$log"

# step NAME COMMAND...: runs it, adds up its closing line "N passed, N failed" (or ctest's), shows the tail when it fails.
step() {
  name=$1
  shift
  start=$(date +%s)
  "$@" >"$log/$name.log" 2>&1
  code=$?
  line=$(grep -E '^[0-9]+ passed, [0-9]+ failed' "$log/$name.log" | tail -n 1)
  if [ -n "$line" ]; then
    good=$(echo "$line" | sed -E 's/^([0-9]+) passed.*/\1/')
    bad=$(echo "$line" | sed -E 's/^[0-9]+ passed, ([0-9]+) failed.*/\1/')
  else
    line=$(grep -E 'tests passed, [0-9]+ tests? failed out of' "$log/$name.log" | tail -n 1)
    if [ -n "$line" ]; then
      bad=$(echo "$line" | sed -E 's/.*, ([0-9]+) tests? failed out of ([0-9]+).*/\1/')
      good=$(echo "$line" | sed -E 's/.*, ([0-9]+) tests? failed out of ([0-9]+).*/\2/')
      good=$((good - bad - $(grep -c '\*\*\*Skipped' "$log/$name.log")))
    else
      good=0
      bad=0
      [ $code -eq 0 ] && good=1
    fi
  fi
  [ $code -ne 0 ] && [ "$bad" -eq 0 ] && bad=1
  passed=$((passed + good))
  failed=$((failed + bad))
  printf '%-22s %5d passed %5d failed  %4ds\n' "$name" "$good" "$bad" "$(($(date +%s) - start))"
  [ "$bad" -ne 0 ] && grep -E 'FAIL|WRONG|CRASH|Failed|\*\*\*|error' "$log/$name.log" | head -n 40
  return 0
}

finish() {
  echo "$passed passed, $failed failed"
  [ "$failed" -eq 0 ]
  exit
}

build() {
  cmake --preset "$1" >"$log/build-$1.log" 2>&1 && cmake --build --preset "$1" -j "$jobs" >>"$log/build-$1.log" 2>&1 && return 0
  tail -n 40 "$log/build-$1.log"
  failed=$((failed + 1))
  finish
}

build dev
step unit-and-golden ctest --preset dev -j "$jobs"
[ "${1:-}" = quick ] && finish
build release
bin=$root/build/release/tests
step includes sh tests/includes.sh
step style sh tests/style.sh
step object sh tests/object/object.sh "$root/build/release"
step limits "$bin/limits" "$root/build/release/qcc"
step command-line sh tests/driver/cli.sh "$root/build/release"
step examples sh examples/quickstart.sh
step random-graphs "$bin/random_graphs" --seeds 1..400 --coverage --jobs "$jobs"
step random-lowbit "$bin/random_graphs" --policy lowbit --seeds 1..200 --pipelines 2 --jobs "$jobs"
step random-quantised "$bin/random_graphs" --quantize w8a8 --seeds 1..60 --pipelines 1 --jobs "$jobs"
step random-amx "$bin/random_graphs" --policy lowbit --seeds 201..240 --target sapphire-rapids --jobs "$jobs"
for scheme in kron kconv tt; do
  step "random-$scheme" "$bin/random_graphs" --seeds 1..80 --pipelines 1 --factorize "$scheme:error=0.0000001:force" --jobs "$jobs"
done
step random-share "$bin/random_graphs" --seeds 1..40 --pipelines 1 --share kmeans:levels=4:force --jobs "$jobs"
step small-models "$bin/models" tests/models/small.tsv tests/models/small --jobs "$jobs"

if [ -d "$shared/suites" ]; then
  data=$root/build/suites
  mkdir -p "$data"
  for archive in "$shared"/suites/onnx-1.22-backend-data.tar.xz "$shared"/suites/generated/*.tar.xz; do
    folder=$data/$(basename "$archive" .tar.xz)
    [ -d "$folder" ] || { mkdir -p "$folder.part" && tar -xJf "$archive" -C "$folder.part" && mv "$folder.part" "$folder"; }
  done
  step conformance "$bin/conformance" "$shared/suites/onnx-1.22-cases.tsv" "$data/onnx-1.22-backend-data/onnx/backend/test/data" \
    tests/conformance/expected.tsv --jobs "$jobs"
  step generated-100 "$bin/models" tests/models/generated.tsv "$data/generated-100" --jobs "$jobs"
  # The same graphs as older CPUs would run them.
  for row in x86-64-v2 x86-64-v3; do
    step "generated-$row" "$bin/models" tests/models/generated.tsv "$data/generated-100" --jobs "$jobs" --target $row
  done
  step generated-nnsmith "$bin/models" tests/models/generated.tsv "$data/nnsmith-40" --jobs "$jobs"
  step real-models "$bin/models" tests/models/real.tsv "$shared/suites/real-models" --jobs "$jobs"
  step verify sh tests/models/verify.sh "$root/build/release/qcc" tests/models/real.tsv "$shared/suites/real-models"
  step trained "$bin/models" tests/models/trained.tsv "$shared/models/trained" --jobs "$jobs"
  step trained-amx "$bin/models" tests/models/trained.tsv "$shared/models/trained" --jobs "$jobs" --target sapphire-rapids
  step compilers sh tests/cross/compilers.sh "$root/build/release"
  step cross sh tests/cross/cross.sh "$root/build/release" "$shared/models/trained"
  step bare sh tests/bare/bare.sh "$root/build/release" "$shared"
  step levels sh tests/cross/levels.sh "$root/build/release" "$shared/models/trained" \
    "dwsep-cnn resnet20-cifar-int8-qop bnn-cnn-w1a1 balanced-w2a2-cnn twn-cnn tt-784x256-r6 groupsparse-cnn lstm-char-alt2bit"
  step layers-trained "$bin/layers" tests/models/layers_trained.tsv "$shared/models/trained"
  step layers-real "$bin/layers" tests/models/layers_real.tsv "$shared/suites/real-models"
  step accuracy "$bin/accuracy" tests/models/accuracy.tsv "$shared/models/trained"
  step factors "$bin/factors" tests/models/factors.tsv "$shared/models/trained"
  step hostile "$bin/hostile" manifest "$root/build/release/qcc"
elif [ "${CI:-}" = true ]; then
  echo "FAIL: the shared suites are not at $shared"
  failed=$((failed + 1))
else
  echo "skipped: the wide suites, they are not at $shared"
fi
finish
