# shellcheck shell=sh disable=SC2034,SC2154 # its variables are common to all these files
# What slurmctld has of this node, and what we made of it.

scontrol() {
    TZ=UTC SLURM_TIME_FORMAT=%s timeout -k 1 10 "$SCONTROL" "$@" 8>&- 9>&-
}

# Set reason (its text), stamped (the same with who and when, as `text [user@seconds]`), state and
# gres as slurmctld has them.
look() {
    shown=$(scontrol show node "$node") || return
    state=$(printf '%s\n' "$shown" | sed -n -E 's/^ *State=([^ ]+).*$/\1/p')
    stamped=$(printf '%s\n' "$shown" | sed -n -E 's/^ *Reason=(.*)$/\1/p')
    gres=$(printf '%s\n' "$shown" | sed -n -E 's/^ *Gres=([^ ]+).*$/\1/p')
    # A comment or a reason of several lines may hold lines that look like the node's own.
    case $state$stamped in
    *"
"*)
        say "what slurmctld tells of $node cannot be read"
        return 1
        ;;
    esac
    reason=$(printf '%s\n' "$stamped" | sed -E 's/ \[[^][]*@[^][]*\]$//')
    [ -n "$state" ]
}

# Whether its state is one of these words alone, beside what says nothing of its use.
state_is() { # word...
    case $state in
    *[!A-Z_+]*) return 1 ;;
    esac
    for word in $(printf '%s\n' "$state" | tr + ' '); do
        case " $* CLOUD DYNAMIC_NORM DYNAMIC_FUTURE " in
        *" $word "*) ;;
        *) return 1 ;;
        esac
    done
    case $state in
    IDLE*) return 0 ;;
    *) return 1 ;;
    esac
}

is_idle() { state_is IDLE; }
is_drained() {
    case $state in
    *+DRAIN*) state_is IDLE DRAIN ;;
    *) return 1 ;;
    esac
}

# The reason is ours while nobody has touched it: the text, who gave it and when are as we left them.
ours() {
    [ -n "$reason" ] && [ "$stamped" = "$r_reason" ]
}

# Learn what became of the last drain.
recognize() {
    case $stamped in
    "$r_pending [$(id -un)@"*"]") # slurmctld did not tell when we gave it
        if [ -n "$r_pending" ] && [ "$reason" = "$r_pending" ]; then r_reason=$stamped; fi
        ;;
    "Prolog error ["*@*"]" | "Epilog error ["*@*"]")
        # munge lets clocks differ by 300 s at most.
        given=${stamped##*@}
        given=${given%]}
        written=$(stat -c %Y "$STATE_DIR/drained" 2>/dev/null)
        if ! ours && is_number "$given" && is_number "$written" &&
            [ $((given - written)) -le 300 ] && [ $((written - given)) -le 300 ]; then
            found=$(read_whole drained)
            if [ -n "$found" ]; then
                r_reason=$stamped
                failed
                give_reason "$found"
            fi
        fi
        rm -f "$STATE_DIR/drained"
        ;;
    '') # well, or resumed by somebody
        drained_for=$(age_of drained)
        [ "${drained_for:-0}" -le 300 ] || rm -f "$STATE_DIR/drained"
        case $state in
        *DRAIN*) ;;
        *)
            [ -z "$r_reason" ] || r_gpus='' # what a person left in it
            r_reason='' r_held=no r_clean=0 r_counted=''
            ;;
        esac
        ;;
    *)
        if ours && [ -e "$STATE_DIR/drained" ]; then
            failed
            rm -f "$STATE_DIR/drained"
        fi
        ;;
    esac
    r_pending=''
}

# How often it was resumed in a day.
relapses() {
    # shellcheck disable=SC2086 # numbers
    set -- $r_resumed
    echo $#
}

# Learn how many GPUs there are; fails where there were more, of which the bad one may be gone.
has_all_gpus() { # how many a run saw
    if ! is_number "$1" || [ "$1" -lt "${r_gpus:-0}" ]; then return 1; fi
    r_gpus=$1
}

# Count a fail: what was clean before it is nothing.
failed() {
    r_failed=$now r_clean=0 r_counted='' r_fails=$(((r_fails + 1) % 1000000))
    if is_number "$RESUME_RELAPSES" && [ "$(relapses)" -ge "$RESUME_RELAPSES" ]; then r_held=yes; fi
}

# Give the node this reason, with a state or without, and remember it as ours.
give_reason() { # line [State=...]
    text=$(printf '%s' "gpu-validator: $1" | tr -c '[:print:]' ' ' | tr -d "'\"\\\\[]" | cut -c -300)
    if [ "$r_held" = yes ]; then text="$text (came back $(relapses) times in a day: resume by hand)"; fi
    if [ "$reason" = "$text" ]; then return 0; fi
    r_pending=$text
    keep || say "$STATE_DIR cannot be written: the node will not be resumed"
    scontrol update NodeName="$node" ${2:+"$2"} Reason="$text" || return
    if look && [ "$reason" = "$text" ]; then
        r_pending='' r_reason=$stamped
        keep
    fi
    return 0
}

# Follow a verdict that is to drain the node.
follow_fail() {
    failed
    if ours; then
        was=$stamped
        if give_reason "$line" && [ "$stamped" != "$was" ]; then say "reason renewed: $line"; fi
    elif [ -z "$reason" ]; then
        case $state in
        *DOWN* | *DRAIN*) say "$line; but the node is $state" ;;
        *)
            if give_reason "$line" State=DRAIN; then
                say "drained: $line"
            else
                say "$line; but slurmctld does not drain $node"
            fi
            ;;
        esac
    else
        say "$line; but the node's reason is another's: $reason"
    fi
}
