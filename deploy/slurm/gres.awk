# The GPUs of a node by gres.conf(5), beside what slurmctld has as its Gres. Variables of the
# environment: node, gres, folder (of gres.conf) and pattern, what a GPU's device file looks like.
# Prints a number, or nothing where it is not sure.

BEGIN {
    node = ENVIRON["node"]
    configured = of_controller(ENVIRON["gres"])
    read_file(ENVIRON["folder"] "/gres.conf", 0)
    files = 0
    for (path in seen) files++
    how = (own_detect != "") ? own_detect : detect
    if (unsure || configured < 1) exit
    if (files && !bare && files == configured) print configured
    if (!files && how ~ /^(nvml|nvidia|rsmi|oneapi)$/) print configured
}

# Its gpu entries, such as gpu:h100:8(S:0-1),shard:16.
function of_controller(list,    entries, parts, i, n, many, total) {
    gsub(/\([^)]*\)/, "", list)
    n = split(list, entries, ",")
    for (i = 1; i <= n; i++) {
        many = split(entries[i], parts, ":")
        if (parts[1] != "gpu") continue
        # A type such as 1g.10gb is of instances.
        if (many > 3 || parts[many] !~ /^[0-9]+$/ || parts[many] > 1024) unsure = 1
        if (many == 3 && parts[2] ~ /[0-9]g[._]|[Mm][Ii][Gg]/) unsure = 1
        total += parts[many]
    }
    return total + 0
}

function read_file(path, depth,    line, part, status) {
    if (depth > 4 || ++opened > 32) { unsure = 1; return }
    while ((status = (getline part < path)) > 0) {
        if (++lines > 20000 || length(part) > 8000) { unsure = 1; break }
        sub(/\r$/, "", part)
        if (part ~ /\\#/) unsure = 1
        sub(/#.*/, "", part)
        if (part ~ /\\$/) { line = line substr(part, 1, length(part) - 1); continue }
        read_line(line part, depth)
        line = ""
    }
    # slurmd needs no gres.conf; but one that is included must be there.
    if (status < 0 && depth) unsure = 1
    if (line != "") unsure = 1
    close(path)
}

function read_line(line, depth,    key, value, is, n, path) {
    gsub(/[ \t]+/, " ", line)
    sub(/^ /, "", line); sub(/ $/, "", line)
    if (line == "") return
    if (tolower(line) ~ /^include /) {
        path = substr(line, 9)
        if (path ~ /[%" ]/) { unsure = 1; return }
        read_file(path ~ /^\// ? path : ENVIRON["folder"] "/" path, depth + 1)
        return
    }
    gsub(/ ?= ?/, "=", line)
    while (match(line, /^[A-Za-z_]+=("[^"]*"|[^" ]+)( |$)/)) {
        n = index(line, "=")
        key = tolower(substr(line, 1, n - 1))
        value = substr(line, n + 1, RLENGTH - n)
        sub(/ $/, "", value); gsub(/"/, "", value)
        if (key in is) unsure = 1
        is[key] = value
        line = substr(line, RLENGTH + 1)
    }
    if (line != "") { unsure = 1; return }
    if (("nodename" in is) && !is_listed(is["nodename"], node)) return
    if ("autodetect" in is) {
        if ("nodename" in is) own_detect = tolower(is["autodetect"])
        else detect = tolower(is["autodetect"])
    }
    if (tolower(is["name"]) != "gpu") return
    if (("multiplefiles" in is) || tolower(is["flags"]) ~ /countonly/) { unsure = 1; return }
    if (!("file" in is)) { bare = 1; return }
    n = add_files(is["file"])
    if (("count" in is) && is["count"] != n) unsure = 1
}

# Whether a name is in a host list such as a,tux[0-2,05-10],r[0-3]n[1-8].
function is_listed(list, name,    i, c, depth, one, found) {
    list = list ","
    for (i = 1; i <= length(list); i++) {
        c = substr(list, i, 1)
        if (c == "[") depth++
        if (c == "]") depth--
        if (c == "," && !depth) { found = found + is_one(one, name); one = "" }
        else one = one c
    }
    if (depth || one != "") unsure = 1
    return found > 0
}

function is_one(pattern, name,    at, to, body, rest, k) {
    at = index(pattern, "[")
    if (!at) return pattern == name
    to = index(pattern, "]")
    body = substr(pattern, at + 1, to - at - 1)
    if (to < at || body !~ /^[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*$/ || length(body) > 2000) {
        unsure = 1
        return 0
    }
    if (substr(name, 1, at - 1) != substr(pattern, 1, at - 1)) return 0
    rest = substr(pattern, to + 1)
    name = substr(name, at)
    for (k = 1; k <= length(name) && k < 10 && substr(name, k, 1) ~ /[0-9]/; k++)
        if (is_number_of(body, substr(name, 1, k)) && is_one(rest, substr(name, k + 1))) return 1
    return 0
}

function is_number_of(body, digits,    ranges, ends, i, n, last) {
    n = split(body, ranges, ",")
    for (i = 1; i <= n; i++) {
        last = split(ranges[i], ends, "-")
        if (digits + 0 >= ends[1] + 0 && digits + 0 <= ends[last] + 0 &&
            digits == sprintf("%0" length(ends[1]) "d", digits)) return 1
    }
    return 0
}

# Take the device files of a list such as /dev/nvidia[0-3,5]; how many it names.
function add_files(list,    at, to, body, ranges, ends, i, k, n, last, many) {
    at = index(list, "[")
    if (!at) {
        n = split(list, ranges, ",")
        for (i = 1; i <= n; i++) add_file(ranges[i])
        return n
    }
    to = index(list, "]")
    body = substr(list, at + 1, to - at - 1)
    if (to != length(list) || list ~ /,.*\[/ || body !~ /^[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*$/) {
        unsure = 1
        return 0
    }
    n = split(body, ranges, ",")
    for (i = 1; i <= n; i++) {
        last = split(ranges[i], ends, "-")
        if (ends[last] - ends[1] > 256) { unsure = 1; return 0 }
        for (k = ends[1] + 0; k <= ends[last] + 0; k++) {
            add_file(substr(list, 1, at - 1) k)
            many++
        }
    }
    return many
}

function add_file(path) {
    if (path !~ ENVIRON["pattern"]) unsure = 1
    seen[path] = 1
}
