# shellcheck shell=sh disable=SC2034,SC2154 # its variables are common to all these files
# What the scripts keep from one run to the next, in STATE_DIR, and who may run beside whom.

# Whether the folder is there and nobody's but ours: no link, and nobody else writes to it. Sets
# what is wrong with it. One that does not answer, as of an NFS server that is gone, is left alone
# from then on: to wait for it would hold up jobs, and have Slurm drain the node.
state_folder() {
    wrong="$STATE_DIR is no folder of ours"
    # touch: what a client of NFS remembers of a folder is no answer.
    # shellcheck disable=SC2016 # the inner shell's
    timeout -k 1 3 /bin/sh -c '
        [ -d "$1" ] || mkdir -p "$1" 2>/dev/null
        [ -n "$(find "$1" -prune -type d -user "$(id -u)" ! -perm -020 ! -perm -002 2>/dev/null)" ] &&
            { touch "$1" 2>/dev/null || :; }
    ' sh "$STATE_DIR" 8>&- 9>&-
    answered=$?
    is_dead "$answered" || return "$answered"
    wrong="$STATE_DIR does not answer within 3 s"
    say "$wrong: nothing that was kept is used, nothing is kept"
    STATE_DIR=/dev/null/none
    return 1
}

# Whether timeout(1) had to end it.
is_dead() { # exit code
    case $1 in
    124 | 137 | 143) return 0 ;;
    *) return 1 ;;
    esac
}

# Lock a file; fails with 1 where another holds it. Some file systems, such as Lustre without
# `-o flock` and folders of NFS, lock nothing, and a server of locks may not answer: that is told, and
# what is kept there is left alone from then on.
lock() { # seconds at most, argument of flock...
    most_s=$1
    shift
    timeout -k 1 "$most_s" flock "$@" 2>/dev/null
    locked=$?
    case $locked in 0 | 1) return "$locked" ;; esac
    wrong="$STATE_DIR cannot be locked"
    STATE_DIR=/dev/null/none
    return 2
}

# Write a file of the folder whole or not at all. The last line tells that it is whole.
write_whole() { # name text
    { printf '%s\nend\n' "$2" >"$STATE_DIR/$1.$$"; } 2>/dev/null &&
        [ "$(tail -n 1 "$STATE_DIR/$1.$$")" = end ] &&
        mv -f "$STATE_DIR/$1.$$" "$STATE_DIR/$1" 2>/dev/null && return
    rm -f "$STATE_DIR/$1.$$" 2>/dev/null
    return 1
}

# A whole file's text; nothing of one that is no plain file or was cut off.
read_whole() { # name
    if [ -f "$STATE_DIR/$1" ] && [ ! -L "$STATE_DIR/$1" ] &&
        [ "$(tail -n 1 "$STATE_DIR/$1" 2>/dev/null)" = end ]; then
        sed '$d' "$STATE_DIR/$1" | head -c 4096
    fi
}

# Seconds since a file was written, by the machine's clock; fails where that is in the future.
age_of() { # name
    written=$(stat -c %Y "$STATE_DIR/$1" 2>/dev/null) || return
    aged=$(($(date +%s) - written))
    [ "$aged" -ge 0 ] && echo "$aged"
}

is_number() {
    case $1 in
    '' | *[!0-9]* | 0?* | ?????????????*) return 1 ;;
    esac
}

# Seconds of a time such as 90, 90s, 15m, 24h or 7d.
in_seconds() {
    amount=${1%[smhd]}
    is_number "$amount" || return
    [ ${#amount} -le 6 ] || return
    case $1 in
    *m) echo $((amount * 60)) ;;
    *h) echo $((amount * 3600)) ;;
    *d) echo $((amount * 86400)) ;;
    *) echo "$amount" ;;
    esac
}

# Seconds since the machine was started: no clock that is set changes them.
uptime_s() {
    read -r up _ </proc/uptime && echo "${up%%.*}"
}

# Sets what was kept of this node. What is not whole, or of another node, was not kept.
recall() {
    r_reason='' r_pending='' r_failed='' r_fails=0 r_clean=0 r_counted='' r_resumed=''
    r_idle='' r_held=no r_gpus=''
    boot=$(cat /proc/sys/kernel/random/boot_id 2>/dev/null)
    now=$(uptime_s)
    today=$(date +%s)
    state_folder || :
    kept=$(read_whole record)
    case $kept in
    "node $node
"*) ;;
    *) return 0 ;;
    esac
    same_boot=no
    while IFS= read -r entry; do
        value=${entry#* }
        case $entry in
        "boot "*) [ "$value" = "$boot" ] && same_boot=yes ;;
        "reason "*) r_reason=$value ;;
        "pending "*) r_pending=$value ;;
        "held yes") r_held=yes ;;
        "failed "*) is_number "$value" && r_failed=$value ;;
        "fails "*) is_number "$value" && r_fails=$value ;;
        "clean "*) is_number "$value" && r_clean=$value ;;
        "counted "*) is_number "$value" && r_counted=$value ;;
        "gpus "*) is_number "$value" && r_gpus=$value ;;
        "idle "*) is_number "$value" && r_idle=$value ;;
        "resumed "*) # of a day; a time to come is one of today
            is_number "$value" && [ $((today - value)) -le 86400 ] && r_resumed="$r_resumed $value"
            ;;
        esac
    done <<EOF
$kept
EOF
    # A restart is no clean run, and its clock is another: waiting begins anew.
    if [ "$same_boot" = no ] && [ -z "$r_reason" ]; then r_gpus=''; fi
    if [ "$same_boot" = no ]; then r_failed=$now r_clean=0 r_counted='' r_idle=''; fi
}

# Keep it; fails where it cannot be written.
keep() {
    state_folder || return
    text_="node $node
boot $boot
reason $r_reason
pending $r_pending
failed $r_failed
fails $r_fails
clean $r_clean
counted $r_counted
idle $r_idle
held $r_held
gpus $r_gpus"
    for at in $r_resumed; do
        text_="$text_
resumed $at"
    done
    write_whole record "$text_"
}

# When a process started, in ticks since the machine did; with its id that names it for good.
start_of() { # pid
    { read -r told <"/proc/$1/stat"; } 2>/dev/null || return
    # shellcheck disable=SC2086 # the name, in brackets, may hold anything; what follows are numbers
    set -- ${told##*) }
    echo "${20}"
}

# End the check that runs because the node was idle: a job comes. It costs the job 5 s at most.
give_way() {
    state_folder || return 0
    # shellcheck disable=SC2046 # two numbers
    set -- $(read_whole running)
    if [ $# -ne 2 ] || ! is_number "$1"; then return 0; fi
    [ "$(start_of "$1")" = "$2" ] || return 0
    rm -f "$STATE_DIR/running" # by which the check knows
    kill -TERM "$1" 2>/dev/null || return 0
    say "the check of the idle node gives way"
    tries=0
    while [ "$tries" -lt 25 ] && [ "$(start_of "$1")" = "$2" ]; do
        tries=$((tries + 1))
        sleep 0.2
    done
}
