#!/bin/sh
# A Markdown table of qcc against other systems, as the README shows it:
#   sh tests/bench/table.sh QCC "PEER COMMAND" "MODEL.onnx [OPTIONS]" ...
# PEER COMMAND is what `qcc bench --peer` takes: it times the model and prints a line of JSON for each of its engines.
# Times are least microseconds of interleaved rounds; rows that could not be measured are named on stderr.
qcc=$1 peer=$2
shift 2
engines=$("$qcc" bench $1 --json --iterations 1 --peer="$peer" | grep -o '"engine":"[^"]*"' | sed 's/.*:"//; s/"//')
head='| network | MMAC | qcc |' rule='|---|---|---|'
for e in $engines; do
  head="$head $e | ratio |" rule="$rule---|---|"
done
printf '%s\n%s\n' "$head" "$rule"
for model; do
  "$qcc" bench $model --markdown --peer="$peer" || echo "no row: $model" >&2
done
