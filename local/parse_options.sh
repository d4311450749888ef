# Option parsing of the shell scripts; source it. Like all of them, for bash from 3.2 on (macOS).
#
# A table describes the options, a line each: "name=default   help text". It is at once the list of
# what is allowed, the defaults and the help. Defaults hold no blanks. An option whose default is a
# number, true or false takes nothing else.

# count_cores: the cores that this process may use; all there are where nproc is missing (macOS).
count_cores() { nproc 2>/dev/null || getconf _NPROCESSORS_ONLN; }

# declare_options TABLE: set every option's variable to its default.
declare_options() {
    local assignment
    while read -r assignment _; do
        [ -z "$assignment" ] || printf -v "${assignment%%=*}" %s "${assignment#*=}"
    done <<<"$1"
}

# show_options TABLE: print the table as help, with the present values.
show_options() {
    local assignment name text
    while read -r assignment text; do
        name=${assignment%%=*}
        [ -z "$name" ] || printf '  %-34s %s\n' "--$name ${!name}" "$text"
    done <<<"$1"
}

# parse_options TABLE ARGUMENT...: set the variables of the options given as --name value or
# --name=value, with - or _ within the name, and help=true for --help. Anything else ends the
# script with status 2.
parse_options() {
    local table=$1 name value default
    help=false
    shift
    while [ $# -gt 0 ]; do
        case $1 in
            --help | -h) help=true && shift && continue ;;
            --*=*) name=${1%%=*} value=${1#*=} ;;
            --*)
                [ $# -gt 1 ] || option_error "option $1 needs a value"
                name=$1 value=$2
                shift
                ;;
            *) option_error "unexpected argument '$1'" ;;
        esac
        shift
        name=${name#--} name=${name//-/_}
        grep -Eq "^ *$name=" <<<"$table" || option_error "unknown option --$name"
        default=$(sed -n "s/^ *$name=\([^ ]*\).*/\1/p" <<<"$table")
        case $default in
            true | false)
                [[ $value =~ ^(true|false)$ ]] ||
                    option_error "--$name takes true or false, not '$value'"
                ;;
            *[!0-9]* | '') ;;
            *)
                [[ $value =~ ^[0-9]+$ ]] ||
                    option_error "--$name takes a whole number, not '$value'"
                value=$((10#$value)) # 08 is 8
                ;;
        esac
        printf -v "$name" %s "$value"
    done
}

# split_words OPTION TEXT: set the array $words to the words of an option's value, quoted as in a
# shell, of which nothing is expanded or run.
split_words() {
    local lines word
    words=()
    [[ $2 = *[![:space:]]* ]] || return 0
    lines=$(xargs -n 1 printf '%s\n' <<<"$2" 2>/dev/null && echo .) ||
        option_error "--$1 has a quotation mark without its partner: $2"
    while IFS= read -r word; do
        words+=("$word")
    done <<<"${lines%??}"
}

option_error() {
    echo "error: $1 (see ./run.sh --help)" >&2
    exit 2
}
