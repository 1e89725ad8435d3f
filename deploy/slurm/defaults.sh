# shellcheck shell=sh disable=SC2034,SC2154 # its variables are common to all these files
# What the settings file leaves out, such as one of an older release, and what in it is not understood.

# Give a setting its default where it is missing; without what an editor of Windows leaves at its end.
given() { # name default
    eval "value=\${$1-\$2}"
    case $value in
    *[[:space:]]) value=$(printf '%s' "$value" | sed 's/[[:space:]]*$//') ;;
    esac
    eval "$1=\$value"
}

# Say that a setting is not understood, and what is meant now.
refuse() { # name meant
    say "settings: $1=$value is not understood: taken for ${2:-none}"
    eval "$1=\$2"
}

# One of some words, whatever its case; what is meant by another is the last.
word() { # name default other words...
    name=$1 other=$3
    given "$1" "$2"
    shift 3
    case $value in
    *[A-Z]*) value=$(printf '%s' "$value" | tr '[:upper:]' '[:lower:]') ;;
    esac
    case " $* " in
    *" $value "*) eval "$name=\$value" ;;
    *) refuse "$name" "$other" ;;
    esac
}

# Seconds; less than two would be no time at all.
budget() { # name default
    given "$1" "$2"
    seconds=$(in_seconds "$value") || seconds=0
    if is_number "$seconds" && [ "$seconds" -ge 2 ]; then
        eval "$1=\$seconds"
    else
        refuse "$1" "$2"
    fi
}

# A time, or nothing; without one nothing is begun or ended by it.
duration() { # name default
    given "$1" "$2"
    if [ -n "$value" ] && [ -z "$(in_seconds "$value")" ]; then refuse "$1" ''; fi
}

number() { # name default
    given "$1" "$2"
    is_number "$value" || refuse "$1" ''
}

given GPU_VALIDATOR /opt/gpu-validator/bin/gpu-validator
given SERVER unix:/run/gpu-validator/api.sock
given MAX_AGE 15m
given EPILOG_MAX_AGE "$MAX_AGE"
given PROFILE quick
given GPU_FILES '^/dev/(nvidia[0-9]+|dri/renderD[0-9]+)$'
given DEVICE_TYPE cuda
given NVIDIA_GPUS /proc/driver/nvidia/gpus
given SCONTROL /usr/bin/scontrol
given SLURM_CONF ''
given LOGGER /usr/bin/logger
given STATE_DIR /var/lib/gpu-validator-slurm

# What is not understood runs nothing, resumes nothing and spares nobody.
word RUN yes no yes no
word EPILOG_ON_FAIL note note note drain
word EPILOG_RUN no no yes no
word ON_FAIL drain drain drain allow
word ON_ERROR allow allow drain allow
word RESUME yes no yes no
word RESUME_WARN no no yes no
word OPT_OUT yes no yes no
word IDLE_PROFILE standard standard standard deep
budget PROLOG_BUDGET_S 20
budget EPILOG_BUDGET_S 20
budget HEALTH_BUDGET_S 45
budget IDLE_BUDGET_S 300
duration RESUME_WAIT 30m
duration IDLE_EVERY ''
number RESUME_AFTER 3
number RESUME_RELAPSES 3
given EXPECT_GPUS gres
case $EXPECT_GPUS in
gres | '') ;;
*) is_number "$EXPECT_GPUS" || refuse EXPECT_GPUS '' ;;
esac
