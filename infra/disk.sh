# The disk of one instance, see disk.py: sh -s make|keep|mount|remove FOLDER u-… [MIB INODES], as root.
set -eu
umask 077
PATH=$PATH:/usr/sbin:/sbin
export LC_ALL=C

# MiB on the host's disk that no new or growing disk of an instance takes.
reserve=1024
# What resize2fs may leave out: a last part too small for a group of blocks.
rest=$((16 * 1048576))

fail() {
  echo "$1" >&2
  exit 1
}

# Whoever can write there could put a link or a file of theirs in the place of a disk.
own_folder() {
  [ -e "$volumes" ] || [ "$verb" = remove ] || install -d -m 0755 "$volumes"
  [ -e "$volumes" ] || exit 0
  if [ -L "$volumes" ] || [ "$(stat -c %u "$volumes")" != 0 ] || [ $((0$(stat -c %a "$volumes") & 022)) != 0 ]; then
    fail "Others may write to $volumes: make it root's alone, or name another folder as zaki:volumes in the host's stack."
  fi
}

has_room() { # MIB
  free=$(df --output=avail --block-size=1M "$volumes" | tail -n 1)
  [ $(($1 + reserve)) -le "$free" ] ||
    fail "The disk of $id needs $1 MiB below $volumes, where $((free)) MiB are free and $reserve stay free: free some room there, and it is tried again."
}

# Devices that the file is attached to.
loops() { losetup --noheadings --output NAME --associated "$image"; }

# The device that is mounted in the disk's place.
mounted() { findmnt --noheadings --first-only --output SOURCE --mountpoint "$place"; }

is_ours() { [ "$(e2label "$image" 2>/dev/null)" = "$id" ]; }

file_system_bytes() {
  dumpe2fs -h "$image" 2>/dev/null | {
    count=0 size=0
    while IFS=: read -r name value; do
      case $name in "Block count") count=$((value)) ;; "Block size") size=$((value)) ;; esac
    done
    echo $((count * size))
  }
}

new_file() {
  rm -f "$draft"
  has_room "$mib"
  fallocate --length "${mib}MiB" "$draft" 2>/dev/null ||
    fail "The disk of $id cannot be made: the disk of $volumes did not give $mib MiB."
  # Nothing may be given back, now or by the kernel later: the host could run out of it meanwhile.
  mkfs.ext4 -q -F -m 0 -N "$inodes" -L "$id" -E nodiscard,lazy_itable_init=0,lazy_journal_init=0 "$draft" >/dev/null 2>&1 ||
    fail "The disk of $id cannot be made: mkfs.ext4 does not take $mib MiB with $inodes inodes."
  fallocate --length "${mib}MiB" "$draft" 2>/dev/null ||
    fail "The disk of $id cannot be made: the disk of $volumes did not give $mib MiB."
  sync "$draft"
  mv "$draft" "$image"
  sync "$volumes"
}

attach() {
  [ -d "$place" ] || mkdir -m 0700 "$place"
  device=$(loops | head -n 1)
  if [ -n "$device" ]; then
    # Something that runs still holds it: two devices on one file would ruin it.
    mount -t ext4 -o nosuid,nodev "$device" "$place" || fail "The disk of $id cannot be mounted: look at dmesg."
    return
  fi
  checked=0
  e2fsck -p "$image" >/dev/null 2>&1 || checked=$?
  [ "$checked" -lt 4 ] || fail "The disk of $id, $image, is damaged: run e2fsck on it, or put it back from your backup."
  mount -t ext4 -o loop,nosuid,nodev "$image" "$place" 2>/dev/null ||
    fail "The disk of $id cannot be mounted at $place: the kernel needs ext4 and a free loop device (losetup -f names one)."
}

mount_it() {
  [ -e "$image" ] || fail "The disk of $id, $image, is missing: put it back from your backup, or delete it with \`zaki instance rm $id\`."
  is_ours || fail "$image is not the disk of $id: put that back from your backup."
  device=$(mounted) || device=
  if [ -z "$device" ]; then
    attach
  elif [ "$device" != "$(loops | head -n 1)" ]; then
    fail "Something else is mounted at $place: unmount it, and it is tried again."
  fi
  chmod 0700 "$place"
  if [ ! -d "$place/data" ]; then
    rm -rf "$place/data.new"
    mkdir -m 0700 "$place/data.new"
    chown 1000:1000 "$place/data.new"
    mv "$place/data.new" "$place/data"
  fi
}

grow() {
  wanted=$((mib * 1048576)) has=$(stat -c %s "$image")
  if [ "$wanted" -gt "$has" ]; then
    has_room $(((wanted - has) / 1048576))
    fallocate --length "$wanted" "$image" 2>/dev/null ||
      fail "The disk of $id cannot grow: the disk of $volumes did not give $mib MiB."
  elif [ "$wanted" -lt "$has" ]; then
    echo "The disk of $id stays at $((has / 1048576)) MiB, for a disk never shrinks."
  fi
  # Zeros that are written to a device come as holes: they are taken again while there is room.
  fallocate --length "$(stat -c %s "$image")" "$image" 2>/dev/null || true
  [ $(($(stat -c %s "$image") - $(file_system_bytes))) -ge $rest ] || return 0
  device=$(mounted) || device=
  if [ -n "$device" ]; then
    losetup --set-capacity "$device"
    if resize2fs "$device" >/dev/null 2>&1; then return; fi
    # Not every kernel lets one that is mounted grow.
    umount "$place" 2>/dev/null || true
  fi
  if [ -n "$(loops)" ]; then
    attach_again
    echo "The disk of $id grows to $mib MiB when it is started next."
    return
  fi
  checked=0
  e2fsck -f -p "$image" >/dev/null 2>&1 || checked=$?
  [ "$checked" -lt 4 ] || fail "The disk of $id, $image, is damaged: run e2fsck on it, or put it back from your backup."
  resize2fs "$image" >/dev/null 2>&1 || fail "The disk of $id cannot grow: resize2fs does not take $image."
}

attach_again() {
  device=$(mounted) || device=
  [ -n "$device" ] || attach
}

remove() {
  if device=$(mounted) && [ -n "$device" ]; then
    case "$device" in
      /dev/loop*) umount "$place" 2>/dev/null || fail "The disk of $id is in use: end what has files open below $place." ;;
      *) fail "Something else is mounted at $place: unmount it, and it is tried again." ;;
    esac
  fi
  if [ -e "$image" ]; then
    is_ours || fail "$image is not the disk of $id, so it is not removed: move it away."
    loops | while read -r device; do losetup --detach "$device"; done
    tries=0
    while [ -n "$(loops)" ]; do
      tries=$((tries + 1))
      [ $tries -le 50 ] || fail "The disk of $id is in use: remove its container, and it is tried again."
      sleep 0.1
    done
  fi
  rm -f "$image" "$draft"
  if [ -d "$place" ]; then
    rmdir "$place" 2>/dev/null || fail "$place is not empty, and what is there is not the disk of $id: move it away."
  fi
}

main() {
  verb=$1 volumes=$2 id=$3 mib=${4:-0} inodes=${5:-0}
  image=$volumes/$id.img draft=$volumes/.$id.draft place=$volumes/$id
  own_folder
  # One at a time: what a killed run has left behind may still be at work, and the room is counted once.
  exec 9<"$volumes"
  flock --timeout 90 9 || fail "Another disk below $volumes is being worked on for too long: look for a mkfs or resize2fs that hangs."
  case $verb in
    make)
      [ -e "$image" ] || new_file
      is_ours || fail "$image is not the disk of $id: move it away."
      grow
      mount_it
      ;;
    keep)
      if [ -e "$image" ] && is_ours; then grow; fi
      mount_it
      ;;
    mount) mount_it ;;
    remove) remove ;;
  esac
}

# Read to its end before anything runs that could read from the same input.
main "$@" </dev/null
exit
