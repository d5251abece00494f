# Changes over to a release of Zaki that is installed, and goes back where it does not become ready. May be stopped
# anywhere: the next run goes on. After the variables that say which: version, ready_within (seconds), public (host:port),
# credentials (words for systemd-run), facts (the file with what the host's stack says).

root=/opt/zaki
releases=$root/releases
release=$releases/$version
state=/var/lib/zaki
# Root's alone.
copies=$state/copies
services=(zaki-provisioner.service zaki-front.service)
sockets=(zaki-public.socket zaki-bridge.socket)

serves() { basename "$(readlink "$root/$1" 2>/dev/null)" 2>/dev/null || true; } # current|previous

point() { # current|previous VERSION
  ln -sfn "releases/$2" "$root/.$1"
  mv --no-target-directory "$root/.$1" "$root/$1"
}

# A command of the release, with the settings and credentials of its services.
zaki() {
  # shellcheck disable=SC2086
  systemd-run --quiet --collect --wait --pipe --service-type=exec --gid=zaki --property=UMask=0007 \
    --property=WorkingDirectory="$root" --property=EnvironmentFile=/etc/zaki/zaki.env $credentials \
    --setenv=ZAKI_STATE="$state" --setenv=XDG_CACHE_HOME=/var/cache --setenv=HOME=/root \
    "$release/venv/bin/zaki" "$@" </dev/null
}

# What the new one makes of the database is copied first. Where the old one could not work with it, there is no way back.
look_at_database() {
  local found copy=$copies/before-$version.sqlite3
  found=$(zaki schema --json) || fail "Zaki $version cannot read the database: see the lines above."
  if [[ $found == *'"changes": true'* && -e $state/db/zaki.sqlite3 ]]; then
    zaki schema --copy "$copy" >/dev/null || fail "The database could not be copied: free some room at $state."
  fi
  if [[ $found == *'"way_back": false'* ]]; then touch "$release/no-way-back"; fi
}

# Units, settings, secrets and facts as the services got them.
settings() { cat /etc/systemd/system/zaki-* /etc/zaki/zaki.env /etc/zaki/credentials/* "$facts" 2>/dev/null | sha256sum | cut -c 1-64; }
addresses() { cat "${sockets[@]/#//etc/systemd/system/}" | sha256sum | cut -c 1-64; }

start_services() {
  systemctl daemon-reload
  if [[ $(cat "$root/addresses" 2>/dev/null) != "$(addresses)" ]]; then
    # systemd changes no socket under a service.
    systemctl stop zaki-front.service
    systemctl stop "${sockets[@]}"
    addresses >"$root/addresses"
  fi
  systemctl start "${sockets[@]}"
  if [[ -e $release/no-way-back ]]; then systemctl stop "${services[@]}"; fi
  # One after the other: the front is away for as short as can be, and meanwhile its sockets hold who comes.
  systemctl restart "${services[0]}" && systemctl restart "${services[1]}"
}

running() { systemctl show --property=ActiveState,MainPID "${services[@]}" | tr '\n' ' '; }

# What a service itself said last.
last_words() { # SERVICE
  local said
  said=$(journalctl --quiet --lines=1 --output=cat "_SYSTEMD_UNIT=$1" 2>/dev/null | tail -n 1 | cut -c 1-300)
  [[ -z $said ]] || printf ': %s' "${said%.}"
}

# Says nothing where it is ready, else why not.
why_not() {
  local service
  for service in "${services[@]}"; do
    [[ $(systemctl is-active "$service") == active ]] || { echo "$service does not run$(last_words "$service")"; return; }
  done
  python3 - "http://$public/readyz" <<'PYTHON'
import json, sys, urllib.error, urllib.request
try:
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(sys.argv[1], timeout=5)
except urllib.error.HTTPError as answer:
    checks = json.load(answer).get("checks", {})
    print("; ".join(f"{name}: {found}" for name, found in checks.items() if found != "ok") or f"status {answer.code}")
except OSError as error:
    print(f"the front does not answer ({error})")
PYTHON
}

# Ready is who was so for five looks in a row without being started anew.
becomes_ready() {
  local deadline=$((SECONDS + ready_within)) good=0 before='' now
  while ((good < 5)); do
    reason=$(why_not)
    now=$(running)
    if [[ -z $reason && $now == "$before" ]]; then good=$((good + 1)); else good=0; fi
    before=$now
    ((good == 5 || SECONDS < deadline)) || return 1
    sleep 1
  done
}

# The old one and the copies for it go with the one after the next.
clean() {
  local found
  for found in "$releases"/*; do
    case ${found##*/} in "$(serves current)" | "$(serves previous)") ;; *) rm -rf "$found" ;; esac
  done
  for found in "$copies"/before-*.sqlite3; do
    [[ -d $releases/$(basename "${found#*before-}" .sqlite3) ]] || rm -f "$found"
  done
}

change_over() {
  local from reason='' old
  from=$(serves current)
  if [[ $from == "$version" && -e $release/proven && $(cat "$root/settings" 2>/dev/null) == "$(settings)" ]]; then
    reason=$(why_not)
    [[ -n $reason ]] || return 0
  fi
  if [[ $from != "$version" ]]; then
    # One that never served is no place to go back to.
    if [[ -e $releases/$from/proven ]]; then point previous "$from"; fi
    # It may have outlived a version that was taken away.
    [[ -z $from && ! -e $state/db/zaki.sqlite3 ]] || look_at_database
    rm -f "$release/proven"
    point current "$version"
  fi
  if start_services && becomes_ready; then
    touch "$release/proven"
    settings >"$root/settings"
    clean
    return
  fi
  old=$(serves previous)
  reason=${reason:-$(why_not)}
  why="Zaki $version did not become ready (${reason:-it ends at once}; it had $ready_within seconds); \`journalctl -u zaki-front -u zaki-provisioner\` on the host says why"
  if [[ -e $release/proven || -z $old || $old == "$version" ]]; then
    fail "$why."
  fi
  if [[ -e $release/no-way-back ]]; then
    fail "$why. It changed the database so that $old cannot work with it; a copy from before is $copies/before-$version.sqlite3. Bring a version that works."
  fi
  point current "$old"
  if start_services && becomes_ready; then fail "$why. $old serves again."; fi
  fail "$why. $old, which serves again, is not ready either (${reason:-it ends at once})."
}

systemctl daemon-reload
systemd-sysusers /etc/sysusers.d/zaki.conf
systemd-tmpfiles --create /etc/tmpfiles.d/zaki.conf
change_over
systemctl enable --quiet "${sockets[@]}" "${services[@]}"
systemctl enable --quiet --now zaki-doctor.timer zaki-backup.timer zaki-clean.timer
