# What runs on the machine around each step of infra/steps.py, after the variables that say what the step is:
# step_do, step_undo, step_check (scripts), step_secret, step_provisional (seconds or nothing), and step_files().

records=/var/lib/zaki/steps
# When Debian's package lists were last brought.
lists=/run/zaki-steps/lists

fail() {
  printf '%s\n' "$1" >&2
  exit 1
}

# --- for the scripts of a step ---------------------------------------------------------------------------------------

# Packages from Debian; what was not there before goes again with the step.
apt_install() { # PACKAGE...
  local package lacking=()
  for package in "$@"; do
    [[ $(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || lacking+=("$package")
  done
  ((${#lacking[@]})) || return 0
  fresh_lists
  # A list that is some minutes old may name what the mirror has replaced since.
  install_from_lists "${lacking[@]}" || { fresh_lists now && install_from_lists "${lacking[@]}"; } ||
    fail "Debian's packages ${lacking[*]} could not be installed on this host: see the lines above."
}

# The package lists, brought once for all steps of an `up`.
fresh_lists() { # [now]
  [[ -n ${1-} || -z $(find "$lists" -mmin -30 2>/dev/null) ]] || return 0
  patient apt-get update --quiet --option APT::Update::Error-Mode=any ||
    fail "Debian's package lists could not be brought to this host: see the lines above, and check its network and /etc/apt."
  mkdir -p "${lists%/*}"
  touch "$lists"
}

install_from_lists() { # PACKAGE...
  # Known before they are there: a stop in between loses none, and what somebody else installs meanwhile is not among them.
  apt-get --simulate install --no-install-recommends "$@" |
    awk '$1 == "Inst" && $3 !~ /^\[/ { print $2 }' >>"$record/packages"
  patient apt-get install --quiet --yes --no-install-recommends \
    --option Dpkg::Options::=--force-confdef --option Dpkg::Options::=--force-confold "$@"
}

# Waits while the machine's own updates are under way, which hold one of several locks.
patient() { # COMMAND...
  local said= status try
  for try in {1..240}; do
    status=0
    said=$("$@" 2>&1 </dev/null) || status=$?
    [[ $status != 0 && $said =~ "Could not get lock"|"locked by another process" ]] || break
    sleep 5
  done
  printf '%s\n' "$said"
  return "$status"
}

# An earlier run may have been killed while packages were unpacked, whose programs are there and do not work.
finish_packages() {
  [[ -z $(dpkg --audit 2>/dev/null) ]] || patient dpkg --configure --pending ||
    fail "Packages on this host are half installed: see the lines above, and run \`dpkg --configure --pending\` there."
}

# Whole or not.
present() { dpkg-query --show --showformat='${db:Status-Status} ${Package}\n' | sed -nE '/^(not-installed|config-files) /!s/^[^ ]+ //p' | LC_ALL=C sort -u; }

# A folder, and those above it; the ones that were not there go again after the last step, if they are empty then.
make_folder() { # PATH
  local path=$1 made=()
  while [[ -n $path && ! -d $path ]]; do
    made+=("$path")
    path=${path%/*}
  done
  ((${#made[@]})) || return 0
  mkdir -p "$records/records"
  printf '%s\n' "${made[@]}" >>"$records/records/folders"
  mkdir -p "$1"
}

# Undoes step_files: what was there before comes back.
restore_files() {
  local sum mode owner path
  [[ -f $record/files ]] || return 0
  while IFS=$'\t' read -r sum mode owner path; do forget_file "$path"; done <"$record/files"
  rm -f "$record/files"
}

# --- files -----------------------------------------------------------------------------------------------------------

forget_file() { # PATH
  if [[ -e $record/before$1 || -L $record/before$1 ]]; then
    cp --archive --force "$record/before$1" "$1.zaki-new"
    mv --force --no-target-directory "$1.zaki-new" "$1"
    rm -f "$record/before$1"
  else
    rm -f "$1"
  fi
}

put_file() { # PATH MODE OWNER CONTENT
  local path=$1 mode=$2 owner=$3 draft
  make_folder "${path%/*}"
  if [[ ( -e $path || -L $path ) && $'\n'$(cut -f 4 "$record/files" 2>/dev/null)$'\n' != *$'\n'$path$'\n'* ]]; then
    mkdir -p "$record/before${path%/*}"
    cp --archive --force "$path" "$record/before$path"
  fi
  # Known before it is there, so that a stop in between loses nothing.
  printf '%s\t%s\t%s\t%s\n' "$(printf %s "$4" | sha256sum | cut -c 1-64)" "$mode" "$owner" "$path" >>"$record/files.new"
  [[ -f $record/files ]] || cp "$record/files.new" "$record/files"
  grep -qxF -- "$(tail -n 1 "$record/files.new")" "$record/files" || tail -n 1 "$record/files.new" >>"$record/files"
  draft=$(mktemp "$path.zaki-XXXXXX")
  printf %s "$4" >"$draft"
  chmod "$mode" "$draft"
  chown "$owner" "$draft"
  sync "$draft"
  mv --force --no-target-directory "$draft" "$path"
}

put_files() {
  local path
  rm -f "$record/files.new"
  : >"$record/files.new"
  step_files
  # What an earlier form of the step had and this one has not.
  if [[ -f $record/files ]]; then
    while IFS= read -r path; do
      cut -f 4 "$record/files.new" | grep -qxF -- "$path" || forget_file "$path"
    done < <(cut -f 4 "$record/files" | sort -u)
  fi
  mv "$record/files.new" "$record/files"
}

# --- a change that could cost us the way in ---------------------------------------------------------------------------

# Takes the step back on its own after so many seconds, at a later boot too, unless a new connection disarms it.
arm() {
  { declare -f && declare -p records name record lists && echo 'wait_for_unit; exec 9>"/run/lock/zaki-step-$name"; flock 9; [[ ! -e $record/armed ]] || undo_step'; } >"$record/revert"
  cat >"/etc/systemd/system/zaki-revert-$name.service" <<UNIT
[Unit]
Description=Take back the step $name of Zaki, after which nobody could log in

[Service]
Type=oneshot
ExecStart=/bin/bash -euo pipefail $record/revert
UNIT
  cat >"/etc/systemd/system/zaki-revert-$name.timer" <<UNIT
[Unit]
Description=Wait for a new log-in after the step $name of Zaki

[Timer]
OnActiveSec=$step_provisional
AccuracySec=1

[Install]
WantedBy=timers.target
UNIT
  touch "$record/armed"
  systemctl daemon-reload
  systemctl enable --quiet "zaki-revert-$name.timer"
  begin_countdown
}

# One that has come to its end while the step was still at work waits for the step, and has no right to go on.
begin_countdown() {
  systemctl stop "zaki-revert-$name.service"
  systemctl restart "zaki-revert-$name.timer"
}

disarm() {
  rm -f "$record/armed"
  [[ -e /etc/systemd/system/zaki-revert-$name.timer ]] || return 0
  systemctl disable --quiet --now "zaki-revert-$name.timer"
  rm -f "/etc/systemd/system/zaki-revert-$name.timer" "/etc/systemd/system/zaki-revert-$name.service"
  systemctl daemon-reload
}

# --- the step itself -------------------------------------------------------------------------------------------------

do_step() { # TOKEN
  mkdir -p "$record"
  chmod 0700 "$record"
  [[ -e $record/begun ]] || touch "$record/begun"
  rm -f "$record/token"
  printf %s "$step_do" >"$record/do"
  printf %s "$step_undo" >"$record/undo"
  printf %s "$step_check" >"$record/check"
  finish_packages
  [[ -z $step_provisional ]] || arm
  put_files
  run_script do < <(printf %s "$step_secret")
  [[ -z $step_provisional ]] || begin_countdown
  printf %s "$1" >"$record/token"
}

run_script() { # do|undo|check
  [[ -s $record/$1 ]] || return 0
  bash -euo pipefail <(declare -f && declare -p records name record lists && cat "$record/$1")
}

undo_step() {
  [[ -d $record ]] || return 0
  rm -f "$record/token"
  run_script undo </dev/null
  restore_files
  remove_packages
  rm -rf "$record"
  rmdir --ignore-fail-on-non-empty --parents "$records" 2>/dev/null || true
  # Last: it takes away the unit that this may run in, which systemd then ends.
  disarm
}

# The undo of the step `records`, which comes before all others: of a step that failed at its first run nobody else knows.
undo_rest() {
  local path
  # The newest first.
  while read -r path; do
    [[ $path == "$record" ]] || (
      name=${path##*/} record=$path
      exec 9>"/run/lock/zaki-step-$name"
      flock 9
      wait_for_unit
      undo_step
    ) </dev/null
  done < <(find "$records" -mindepth 2 -maxdepth 2 -name begun -printf '%T@ %h\n' | LC_ALL=C sort -rn | cut -d ' ' -f 2)
  touch "$record/folders"
  sort -ru "$record/folders" | while read -r path; do rmdir "$path" 2>/dev/null || true; done
  systemctl daemon-reload
  rmdir --ignore-fail-on-non-empty /run/zaki 2>/dev/null || true
  # Last: what this step itself runs by is there too.
  rm -rf /run/zaki-* /run/lock/zaki-step-*
}

# Those of ours that nothing else needs; their data and settings stay.
remove_packages() {
  local ours unneeded
  [[ -s $record/packages ]] || return 0
  ours=$(comm -12 <(LC_ALL=C sort -u "$record/packages") <(present))
  [[ -n $ours ]] || return 0
  # shellcheck disable=SC2086
  apt-mark auto $ours >/dev/null
  unneeded=$(comm -12 <(printf '%s\n' "$ours") \
    <(apt-get --simulate autoremove | awk '$1 == "Remv" { print $2 }' | LC_ALL=C sort))
  # shellcheck disable=SC2086
  [[ -z $unneeded ]] || patient apt-get remove --quiet --yes $unneeded
}

# The new connection that a provisional step waits for is the one that this came over.
prove_step() {
  [[ -e $record/token ]] ||
    fail "The step $name was taken back, because no new log-in came in time: run \`zaki host up\` again."
  disarm
}

within() { # do|undo|prove TOKEN
  case $1 in
    do) do_step "$2" ;;
    undo) undo_step ;;
    prove) prove_step ;;
  esac
}

# The unit of the step outlives a connection that was cut.
wait_for_unit() {
  while [[ $(systemctl show --property ActiveState --value "zaki-step-$name.service") == active || $(systemctl show --property ActiveState --value "zaki-step-$name.service") == *ing ]]; do
    sleep 0.5
  done
}

main() { # within|do|undo|prove NAME TOKEN
  local unit status=0 log
  name=$2 record=$records/$2
  export LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive PATH=$PATH:/usr/sbin:/sbin
  if [[ $1 == within ]]; then
    within "$4" "$3"
    return
  fi
  trap 'rm -f "$0"' EXIT
  unit=zaki-step-$name log=/run/zaki-steps/$name.log
  mkdir -p /run/lock
  exec 9>"/run/lock/$unit"
  flock 9
  if [[ ! -d /run/systemd/system ]]; then
    bash -euo pipefail "$0" within "$2" "$3" "$1" </dev/null 9>&-
    return
  fi
  wait_for_unit
  systemctl reset-failed "$unit.service" 2>/dev/null || true
  rm -f "$log"
  systemd-run --quiet --wait --collect --unit="$unit" --description="Zaki: $1 $name" --setenv=HOME=/root \
    --property=StandardOutput="truncate:$log" --property=StandardError=inherit \
    /bin/bash -euo pipefail "$0" within "$2" "$3" "$1" </dev/null 9>&- || status=$?
  # Of a step that succeeded nothing is worth keeping in the stack's state.
  ((status == 0)) || cat "$log" >&2 || true
  rm -f "$log"
  return "$status"
}
