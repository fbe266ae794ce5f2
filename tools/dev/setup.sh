# shellcheck shell=bash
# Installing what ./dev needs: Debian packages (packages.txt) and the Python tools of the tests (.venv).
# Sourced by ./dev, which defines say, note, die, INSTALL and LOGS. Nothing is installed that is there already.

# setup_packages GROUP...: installs the missing packages of these groups, after saying which and why.
setup_packages() {
  local missing=() packages=() group package why line
  if [ -n "${PACKAGES_CHECKED:-}" ] && [[ " $PACKAGES_CHECKED " == *" $* "* ]]; then
    return
  fi
  PACKAGES_CHECKED="${PACKAGES_CHECKED:-} $*"
  if [ -n "${MLIR_DIR:-}" ] && [ ! -f "$MLIR_DIR/MLIRConfig.cmake" ]; then
    die "MLIR_DIR is $MLIR_DIR, which has no MLIRConfig.cmake: set it to <prefix>/lib/cmake/mlir of an LLVM 22"
  fi
  while read -r group package why; do
    if [[ $group == \#* || -z $group || " $* " != *" $group "* ]] || [[ $group == llvm && -n ${MLIR_DIR:-} ]]; then
      continue
    fi
    packages+=("$package")
  done <tools/dev/packages.txt
  if ! command -v dpkg-query >/dev/null; then
    note "not a Debian system: install the equivalents of tools/dev/packages.txt yourself; going on with what is there"
    return
  fi
  for package in "${packages[@]}"; do
    # A version of the user's own (a newer cmake in PATH, say) is not looked for: the package is what is tested.
    if [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" != installed ]; then
      missing+=("$package")
    fi
  done
  if [ ${#missing[@]} -eq 0 ]; then
    return
  fi
  say "missing packages:"
  for package in "${missing[@]}"; do
    line=$(grep -E "^[a-z]+ +$package " tools/dev/packages.txt)
    read -r group _ why <<<"$line"
    note "$(printf '%-22s %s' "$package" "$why")"
  done
  install_packages "${missing[@]}"
}

install_packages() {
  local as_root=() command package
  command="apt-get update && apt-get install -y --no-install-recommends $*"
  if [ "$INSTALL" = no ]; then
    note "install them (as root) with:"
    printf '%s\n' "$command"
    exit 1
  fi
  if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null || { ! [ -t 0 ] && ! sudo -n true 2>/dev/null; }; then
      die "installing needs root and sudo is not usable here; as root: $command"
    fi
    as_root=(sudo)
  fi
  say "install them: ${as_root[*]:+${as_root[*]} }$command"
  "${as_root[@]}" apt-get update -qq >"$LOGS/apt.log" 2>&1 || { tail -n 20 "$LOGS/apt.log" >&2; die "apt-get update failed"; }
  for package in "$@"; do
    if ! [[ $(apt-cache policy "$package" 2>/dev/null) =~ Candidate:\ [^\(] ]]; then
      case $package in
        *-22* | *22-*)
          die "the configured package sources have no $package. Debian 12 has LLVM 22 in its security suite: check that
     'bookworm-security' is among the sources (/etc/apt/sources.list.d), add a source that carries LLVM 22, or point
     this script at an LLVM/MLIR 22 of your own: MLIR_DIR=<prefix>/lib/cmake/mlir ./dev ..." ;;
        *) die "the configured package sources have no $package (see apt-cache policy $package)" ;;
      esac
    fi
  done
  local begun=$SECONDS
  if ! "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" \
    >>"$LOGS/apt.log" 2>&1 </dev/null; then
    tail -n 30 "$LOGS/apt.log" >&2
    die "apt-get install failed (above, and in $LOGS/apt.log)"
  fi
  note "installed in $((SECONDS - begun)) s"
}

# setup_venv: .venv with test/requirements.txt; a stamp makes the second time free. Returns 1 (with the reason in
# VENV_PROBLEM) when it cannot be made, for example offline.
setup_venv() {
  local wanted
  VENV_PROBLEM=
  wanted=$(sha256sum test/requirements.txt | cut -d' ' -f1)
  if [ "$(cat .venv/requirements.sha256 2>/dev/null)" = "$wanted" ] && .venv/bin/python -c '' 2>/dev/null; then
    return 0
  fi
  say "install into .venv: $(grep -vE '^ *(#|$)' test/requirements.txt | tr '\n' ' ')"
  if ! { python3 -m venv --clear .venv && .venv/bin/pip install --quiet --disable-pip-version-check \
    -r test/requirements.txt; } >"$LOGS/venv.log" 2>&1; then
    VENV_PROBLEM="test/requirements.txt could not be installed: $(grep -iE 'error' "$LOGS/venv.log" | tail -n 1)"
    note "$VENV_PROBLEM (see $LOGS/venv.log)"
    return 1
  fi
  echo "$wanted" >.venv/requirements.sha256
}
