# shellcheck shell=sh disable=SC2034,SC2154 # its variables are common to all these files
# The thorough check of a node that no job uses, and the end of a drain.

# Whether one is running.
idle_check_runs() {
    [ -e "$STATE_DIR/idle.lock" ] || return 1
    # shellcheck disable=SC2094 # the lock alone is looked at
    timeout -k 1 3 flock -n "$STATE_DIR/idle.lock" true 2>/dev/null 9>&-
    [ $? -eq 1 ] # any other code is no lock
}

# Sets how many seconds a drain of ours lasts at least since the last fail: twice as many for each
# relapse. Fails where nothing may end it but a person.
resume_wait() {
    wait_s=$(in_seconds "$RESUME_WAIT") || wait_s=''
    if [ "$RESUME" != yes ] || [ "$r_held" = yes ] || [ -z "$wait_s" ] ||
        ! is_number "$RESUME_RELAPSES" || [ "$RESUME_RELAPSES" -gt 9 ] ||
        ! is_number "$RESUME_AFTER" || [ "$RESUME_AFTER" -lt 1 ] ||
        ! is_number "$r_failed" || ! is_number "$now"; then
        return 1
    fi
    for _ in $(seq "$(relapses)"); do wait_s=$((wait_s * 2)); done
}

# Seconds since the later of two uptimes.
since() {
    later=$1
    if [ "${2:-0}" -gt "$later" ]; then later=$2; fi
    echo $((now - later))
}

# Whether the node is free, and the thorough check due.
is_due() {
    if is_drained && ours; then
        resume_wait || return
        # Spread over the time to wait.
        [ "$(since "$r_failed" "$r_counted")" -ge $(((wait_s + RESUME_AFTER - 1) / RESUME_AFTER)) ]
    elif is_idle; then
        every=$(in_seconds "$IDLE_EVERY") || return
        [ -z "$r_idle" ] || [ $((now - r_idle)) -ge "$every" ]
    else
        return 1
    fi
}

# Start it beside slurmd, which kills what a health check leaves behind and waits for its output.
start_idle_check() {
    SLURMD_NODENAME="$node" setsid /bin/sh "$here/common.sh" idlecheck \
        </dev/null >/dev/null 2>&1 9>&- &
    tries=0
    while [ "$tries" -lt 20 ] && ! idle_check_runs; do
        tries=$((tries + 1))
        sleep 0.1
    done
}

# Run it on an idle or drained node, and follow its verdict.
idle_check() {
    host=$(uname -n)
    node=${node:-${host%%.*}}
    if ! state_folder; then
        say "$wrong: nothing is checked"
        exit 0
    fi
    # No `:`, which is a special built-in: where it cannot write, the shell ends without a word.
    if ! { true >>"$STATE_DIR/idle.lock"; } 2>/dev/null; then
        say "$STATE_DIR cannot be written: nothing is checked"
        exit 0
    fi
    exec 8<"$STATE_DIR/idle.lock"
    lock 5 -w 2 8 # whoever looks whether one runs holds it for a moment
    case $? in
    0) ;;
    1) exit 0 ;;
    *)
        say "$wrong: nothing is checked"
        exit 0
        ;;
    esac
    if ! look; then
        say "slurmctld does not tell of $node"
        exit 0
    fi
    named=$(printf '%s\n' "$shown" | sed -n -E 's/^.* NodeHostName=([^ ]+).*$/\1/p' | head -n 1)
    if [ -z "${SLURMD_NODENAME:-}" ] && [ "${named%%.*}" != "${host%%.*}" ]; then
        say "the node $node of slurmctld is another machine, $named"
        exit 0
    fi
    if ! is_idle && ! is_drained; then
        say "nothing is checked: the node is $state"
        exit 0
    fi
    # All of the node is judged, whatever slurmd was started with.
    unset CUDA_VISIBLE_DEVICES ROCR_VISIBLE_DEVICES HIP_VISIBLE_DEVICES GPU_DEVICE_ORDINAL ZE_AFFINITY_MASK
    promise_gpus
    recall
    fails=$r_fails
    judge_idle
    # A health check may be at work. The folder may have died meanwhile.
    state_folder || :
    if { true <"$STATE_DIR"; } 2>/dev/null; then
        exec 9<"$STATE_DIR"
        lock 95 -w 90 9
        case $? in
        1) exit 0 ;;
        2) say "$wrong: no node will be resumed" ;;
        esac
    fi
    if ! look; then
        say "$line; but slurmctld does not tell of $node"
        exit 0
    fi
    recall
    recognize
    [ "$verdict" = skip ] || r_idle=$now
    # What a health check or a prolog found meanwhile outweighs it.
    if [ "$verdict" = pass ] && [ "$r_fails" != "$fails" ]; then verdict=skip; fi
    if [ "$verdict" = pass ] && ! has_all_gpus "$seen"; then
        verdict=skip line="$line (not counted: there were $r_gpus GPUs)"
    fi
    if [ "$wanted" = drain ]; then
        follow_fail
    elif [ "$verdict" = pass ] && ours && is_drained; then
        r_clean=$((r_clean + 1)) r_counted=$now
        end_drain
    else
        [ "$verdict" != fail ] || failed
        say "$line"
    fi
    keep || say "$STATE_DIR cannot be written"
}

# Resume the node where the fail is long enough ago; what cannot be written down is not done.
end_drain() {
    if ! resume_wait; then
        say "$line; a person must resume the node"
    elif [ "$r_clean" -lt "$RESUME_AFTER" ] || [ $((now - r_failed)) -lt "$wait_s" ]; then
        say "$line; clean $r_clean of $RESUME_AFTER times, $((now - r_failed)) of $wait_s s"
    else
        before=$r_resumed
        r_resumed="$r_resumed $(date +%s)"
        if keep && scontrol update NodeName="$node" State=RESUME; then
            r_reason='' r_clean=0 r_counted=''
            say "resumed: $line"
        else
            r_resumed=$before
            say "$line; but the node cannot be resumed"
        fi
    fi
}

# Sets verdict, wanted and line. A pass has judged every device: nothing was busy, cut off or left.
judge_idle() {
    case $IDLE_PROFILE in
    standard | deep) profile=$IDLE_PROFILE ;;
    *) profile=standard ;;
    esac
    set --
    if [ "$RUN" = no ]; then
        # By the daemon's own, newer than all that is known.
        age=5400 # the daemon does it once an hour
        if is_number "$r_failed" && ours; then age=$(since "$r_failed" "$r_counted"); fi
        set -- --no-run --max-age "${age}s" --server "$SERVER"
    fi
    report=$STATE_DIR/idle.json
    { rm -f "$report" && true >"$report"; } 2>/dev/null
    PYTHONIOENCODING=ascii timeout -k 3 "$IDLE_BUDGET_S" "$GPU_VALIDATOR" check --quiet \
        --output json --profile "$profile" --timeout "$((IDLE_BUDGET_S > 20 ? IDLE_BUDGET_S - 10 : IDLE_BUDGET_S))" \
        "$@" </dev/null >"$report" 2>/dev/null 8>&- 9>&- &
    pid=$!
    trap 'end_run; wait "$pid"; exit 143' HUP INT TERM
    # From here on a prolog finds it. A job whose prolog came before is known to slurmctld.
    if ! write_whole running "$pid $(start_of "$pid")"; then
        say "$STATE_DIR cannot be written: nothing is checked"
        end_run
    elif look && ! is_idle && ! is_drained; then
        say "the node is $state: the check gives way"
        end_run
    fi
    wait "$pid"
    code=$?
    trap - HUP INT TERM
    ended=no
    [ -e "$STATE_DIR/running" ] || ended=yes
    rm -f "$STATE_DIR/running"
    read_report
    want
}

# End that run: nothing is told by it.
end_run() {
    rm -f "$STATE_DIR/running"
    kill -TERM "$pid" 2>/dev/null
}

# Read the report of that run. The text of a value has its quotes escaped, so that what looks like a
# name and its value is one.
read_report() {
    told=$(head -c 65536 "$report" | sed -n -E 's/^.*"status":"([a-z]+)","summary":"(([^"\\]|\\.)*)","environment":.*$/\1 \2/p' | head -n 1)
    line=${told#* }
    seen=$(grep -o '"device":"[^"]*"' "$report" | sort -u | grep -c -v '"cpu"')
    reasons=$(grep -o '"reason":"[a-z_]*"' "$report" | sort -u | sed -E 's/.*:"(.*)"/\1/')
    case $code:${told%% *} in
    1:fail) verdict=fail ;;
    0:pass | 0:warn)
        verdict=pass
        if [ "${told%% *}" = warn ] && [ "$RESUME_WARN" != yes ]; then verdict=warn; fi
        for reason_ in $reasons; do
            case $reason_ in
            ok | not_applicable | disabled) ;;
            unproven | check_failed) [ "$RESUME_WARN" = yes ] || verdict=warn ;;
            *) verdict=skip line="$line (not counted: $reason_)" ;;
            esac
        done
        grep -q '"not_run":\[\]' "$report" || verdict=skip
        ;;
    *) verdict=error line="error: no verdict of profile $profile within $IDLE_BUDGET_S s" ;;
    esac
    # A fail was seen before, and holds.
    if [ "$verdict" != fail ] && { [ "$ended" = yes ] || [ "$code" -eq 143 ]; }; then
        verdict=skip line="no verdict: ended for a job"
    fi
}
