# shellcheck shell=sh disable=SC2034,SC2154 # its variables are common to all these files
# The health check: drain a node whose GPUs fail, and have one that is drained checked thoroughly.

health() {
    # Slurm starts the next one while a slow one still runs. A folder can be locked when the disk is
    # full, too.
    locked=2
    if state_folder && { true <"$STATE_DIR"; } 2>/dev/null; then
        exec 9<"$STATE_DIR"
        lock 3 -n 9
        locked=$?
    fi
    if [ "$locked" -eq 1 ]; then exit 0; fi
    if [ "$locked" -ne 0 ]; then
        say "$wrong: no node will be resumed"
        STATE_DIR=/dev/null/none # what is in it is somebody's word
    fi
    if ! look; then
        judge "$MAX_AGE" "$HEALTH_BUDGET_S"
        say "$line; but slurmctld does not tell of $node"
        exit 0
    fi
    promise_gpus
    # Not beside the check of the idle node, which would give way to it.
    if idle_check_runs; then RUN=no; fi
    if [ "$RUN" = no ] && [ -z "$MAX_AGE" ]; then exit 0; fi
    note=$(stat -c %i "$STATE_DIR/noted" 2>/dev/null)
    judge "$(youngest)" "$HEALTH_BUDGET_S"
    look || exit 0
    recall
    recognize
    if [ -n "$note" ] && ours; then failed; fi
    has_all_gpus "$(printf '%s\n' "$line" | sed -n -E 's/^pass: .* on ([0-9]+) (GPU|device)s?.*$/\1/p')"
    case $verdict in
    pass | fail) [ "$(stat -c %i "$STATE_DIR/noted" 2>/dev/null)" != "$note" ] || rm -f "$STATE_DIR/noted" ;;
    esac
    if [ "$wanted" = drain ]; then
        follow_fail
    elif [ "$verdict" = fail ]; then
        failed
        say "$line"
    elif [ "$verdict" != pass ]; then
        say "$line"
    elif is_due; then
        keep && start_idle_check
    fi
    keep || say "$STATE_DIR cannot be written: no node will be resumed"
}

# How old an answer of the daemon may be: no older than what an epilog noted.
youngest() {
    most=$(in_seconds "$MAX_AGE")
    since=$(age_of noted)
    if [ -n "$most" ] && [ -n "$since" ] && [ "$since" -lt "$most" ]; then
        echo "${since}s"
    else
        echo "$MAX_AGE"
    fi
}
