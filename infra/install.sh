# Installs a release of Zaki beside the one that serves. May be stopped anywhere: the next run goes on. After the variables
# that say which: version, archive (base64 of a tar.gz).

root=/opt/zaki
release=$root/releases/$version

# Packages come from the index that pip is set to here (/etc/pip.conf), and only as the release's hashes say.
install_release() {
  local python=$release/venv/bin/python
  [[ ! -e $release/complete ]] || return 0
  rm -rf "$release"
  mkdir -p "$release" /var/cache/zaki
  base64 --decode "$archive" | tar --extract --gzip --no-same-owner --directory "$release"
  python3 -m venv "$release/venv" ||
    fail "This host cannot make a Python environment: install Debian's python3-venv, then run \`zaki host up\` again."
  "$python" -m pip --quiet --disable-pip-version-check --cache-dir /var/cache/zaki/pip install \
    --require-hashes --only-binary :all: --requirement "$release/requirements.txt" ||
    fail "Zaki's packages could not be installed: see the lines above, and check this host's network and /etc/pip.conf."
  "$python" -m pip --quiet --disable-pip-version-check install --no-deps --no-index "$release"/*.whl
  "$release/venv/bin/zaki" --help >/dev/null
  sync -f "$release"
  touch "$release/complete"
}

install_release
