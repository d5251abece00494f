# Says what a machine is and whether its steps are as they were left; changes nothing. One fact a line, tabs between.

records=/var/lib/zaki/steps
say() { (IFS=$'\t'; printf '%s\n' "$*"); }

# shellcheck disable=SC1091
say system "$(. /etc/os-release && echo "${ID-} ${VERSION_ID-}")"
if [[ -d /run/systemd/system ]]; then say systemd yes; fi
if user=$(getent passwd 1000); then say user "${user%%:*}"; fi
say now "$(date +%s)"
for path in / /var /tmp; do say free "$path" "$(df --output=avail --block-size=1M "$path" | tail -n 1 | tr -d ' ')"; done
# Who listens where; what systemd holds for a service is no trouble to a unit of ours.
ss -Hltnp 2>/dev/null | while read -r _ _ _ address _ users; do
  [[ $users == *'"systemd"'* ]] || say listens "${address/\%*:/:}" "$(cut -d '"' -f 2 <<<"$users")"
done
for record in "$records"/*/; do
  [[ -s $record/token ]] || continue
  name=$(basename "$record")
  say step "$name" "$(cat "$record/token")"
  while IFS=$'\t' read -r sum mode owner path; do
    if [[ ! -f $path ]]; then
      say drift "$name" "$path is gone"
    elif [[ $(sha256sum <"$path") != "$sum "* ]]; then
      say drift "$name" "$path was edited"
    elif [[ $((8#$(stat -c %a "$path"))) != $((8#$mode)) || $(stat -c %U:%G "$path") != "$owner" ]]; then
      say drift "$name" "$path has another owner or mode"
    fi
  done < <(cat "$record/files" 2>/dev/null)
  [[ -s $record/check ]] || continue
  while IFS= read -r line; do say drift "$name" "$line"; done < <(record=${record%/} name=$name PATH=$PATH:/usr/sbin:/sbin timeout 60 bash -u "$record/check" 2>&1 </dev/null)
done
say end
