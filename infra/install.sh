# Installs a release of Zaki beside the one that serves. May be stopped anywhere: the next run goes on. After the variables
# that say which: version, archive (base64 of a tar.gz).

root=/opt/zaki
release=$root/releases/$version

# Packages come from the index that pip is set to here (/etc/pip.conf), and only as the release's hashes say.
# An environment, with the packages of a release that was locked with the same ones: nothing is unpacked twice, or kept
# twice, for pip replaces files and never writes into them.
borrow_packages() {
  local other
  for other in "$root"/releases/*; do
    [[ -e $other/complete ]] && cmp --quiet "$other/requirements.txt" "$release/requirements.txt" || continue
    python3 -m venv --without-pip "$release/venv" || return
    cp --archive --link "$other/venv/lib/." "$release/venv/lib/"
    return
  done
  python3 -m venv "$release/venv"
}

install_release() {
  local python=$release/venv/bin/python
  [[ ! -e $release/complete ]] || return 0
  rm -rf "$release"
  mkdir -p "$release" /var/cache/zaki
  base64 --decode "$archive" | tar --extract --gzip --no-same-owner --directory "$release"
  borrow_packages ||
    fail "This host cannot make a Python environment: install Debian's python3-venv, then run \`zaki host up\` again."
  "$python" -m pip --quiet --disable-pip-version-check --cache-dir /var/cache/zaki/pip install \
    --require-hashes --only-binary :all: --requirement "$release/requirements.txt" ||
    fail "Zaki's packages could not be installed: see the lines above, and check this host's network and /etc/pip.conf."
  # What was borrowed has the wheel of the other release.
  "$python" -m pip --quiet --disable-pip-version-check install --force-reinstall --no-deps --no-index "$release"/*.whl
  "$release/venv/bin/zaki" --help >/dev/null
  sync -f "$release"
  touch "$release/complete"
}

install_release
