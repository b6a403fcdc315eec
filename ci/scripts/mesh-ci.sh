#!/usr/bin/env bash
# What a change of policies is told before merge: findings, failed tests, and what the change means. The GitHub
# Action, the GitLab template and anything else that runs in CI call this and nothing else.
#
#   mesh-ci.sh [OPTION]...
#
#   --directory DIR   the policy root, or a folder in or above it [default: .]
#   --base REV        compare with the last commit in common with this one [default: as the platform says, else
#                     the remote's default branch]
#   --env NAME        only this environment [default: all of them]
#   --deny LEVEL      the lowest level of findings that fails: error, warning or note [default: error]
#   --min-coverage N  fail when tests cover less than N percent of routes, or of rules
#   --sarif FILE      also write the findings as SARIF, for code scanning
#   --platform NAME   github, gitlab or none [default: where it runs]
#   --comment HOW     post (one comment, kept up to date), print (to standard output) or never
#                     [default: post where there is a pull request and a token, else print]
#
# Exit status: 0 clean, 1 findings or a failed test, 2 could not run; a comment that can't be posted is said, and
# fails nothing, for pull requests from forks have no token that may. Needs bash, git and meshc (or what MESHC
# names); to post, gh, or curl and jq.
#
# Tokens, from the environment and never in arguments: GH_TOKEN or GITHUB_TOKEN; MESH_GITLAB_TOKEN, which needs
# the scope `api`, as a job's own token can't write notes.
set -euo pipefail

meshc=${MESHC:-meshc}
directory=. base='' environment='' deny=error min_coverage='' sarif='' platform='' comment=''
remote=origin

say() { printf '%s\n' "$*" >&2; }
cannot() { say "mesh-ci: $*"; exit 2; }

while [ $# -gt 0 ]; do
    case $1 in
        --directory | --base | --env | --deny | --min-coverage | --sarif | --platform | --comment)
            [ $# -ge 2 ] || cannot "$1 needs a value"
            case $1 in
                --directory) directory=$2 ;;
                --base) base=$2 ;;
                --env) environment=$2 ;;
                --deny) deny=$2 ;;
                --min-coverage) min_coverage=$2 ;;
                --sarif) sarif=$2 ;;
                --platform) platform=$2 ;;
                --comment) comment=$2 ;;
            esac
            shift 2
            ;;
        -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p;}' "$0"; exit 0 ;;
        *) cannot "there is no option $1; --help lists them" ;;
    esac
done
case $comment in '' | post | print | never) ;; *) cannot "--comment is post, print or never" ;; esac
case $sarif in
    */*) [ -d "${sarif%/*}/" ] || cannot "there is no folder \`${sarif%/*}\` to write $sarif in" ;;
esac
case $deny in error | warning | note) ;; *) cannot "--deny is error, warning or note" ;; esac

if [ -z "$platform" ]; then
    if [ "${GITHUB_ACTIONS:-}" = true ]; then platform=github
    elif [ "${GITLAB_CI:-}" = true ]; then platform=gitlab
    else platform=none; fi
fi

# What the platform says of the pull request.
request='' branch='' token=''
case $platform in
    github)
        # refs/pull/N/merge, or /head
        case ${GITHUB_REF:-} in refs/pull/*) request=${GITHUB_REF#refs/pull/} request=${request%%/*} ;; esac
        branch=${GITHUB_BASE_REF:-}
        token=${GH_TOKEN:-${GITHUB_TOKEN:-}}
        ;;
    gitlab)
        request=${CI_MERGE_REQUEST_IID:-}
        branch=${CI_MERGE_REQUEST_TARGET_BRANCH_NAME:-}
        token=${MESH_GITLAB_TOKEN:-}
        ;;
    none) ;;
    *) cannot "--platform is github, gitlab or none" ;;
esac
case $request in *[!0-9]*) cannot "\`$request\` is not the number of a pull request" ;; esac
if [ -z "$comment" ]; then
    if [ -n "$request" ] && [ -n "$token" ]; then comment=post; else comment=print; fi
fi

command -v "$meshc" >/dev/null 2>&1 || cannot "there is no \`$meshc\` here; install it, or name it with MESHC"
[ -d "$directory" ] || cannot "there is no folder \`$directory\`"
git -C "$directory" rev-parse --git-dir >/dev/null 2>&1 || cannot "\`$directory\` is not in a git repository"

in_git() { git -C "$directory" "$@"; }
is_commit() { in_git rev-parse --verify --quiet "$1^{commit}" >/dev/null; }

# The commit that the change started from, or nothing where there is nothing to compare with.
merge_base() {
    local from=$base candidate
    if [ -z "$from" ] && [ -n "$branch" ]; then
        from=refs/remotes/$remote/$branch
        is_commit "$from" || in_git fetch --quiet --no-tags "$remote" "+refs/heads/$branch:$from" \
            || cannot "the target branch \`$branch\` can't be fetched from \`$remote\`"
    fi
    if [ -z "$from" ]; then
        for candidate in "refs/remotes/$remote/HEAD" "refs/remotes/$remote/main" "refs/remotes/$remote/master"; do
            if is_commit "$candidate"; then from=$candidate; break; fi
        done
    fi
    [ -n "$from" ] || return 0
    if ! is_commit "$from" && [ "$(in_git rev-parse --is-shallow-repository)" != true ]; then
        cannot "there is no commit \`$from\`; fetch it, or name another with --base"
    fi
    if ! is_commit "$from" || ! in_git merge-base "$from" HEAD >/dev/null; then
        # CI fetches one commit unless told otherwise, and then nothing is in common.
        [ "$(in_git rev-parse --is-shallow-repository)" = true ] \
            || cannot "\`$from\` and HEAD have no commit in common; name another with --base"
        say "fetching the history, which this clone lacks (give the checkout step a depth of 0 to save this)"
        in_git fetch --quiet --no-tags --unshallow "$remote" \
            || cannot "the history can't be fetched; check out with the whole history"
        is_commit "$from" || cannot "there is no commit \`$from\`; name another with --base"
    fi
    in_git merge-base "$from" HEAD || cannot "\`$from\` and HEAD have no commit in common"
}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

status=0
# Keeps the worse of two; what is no status of ours is that something could not run.
worse() { case $1 in 0) ;; 1) [ "$status" -ne 0 ] || status=1 ;; *) status=2 ;; esac; }

place=(-C "$directory")
[ -z "$environment" ] || place+=(--env "$environment")

from=$(merge_base)
against=()
if [ -n "$from" ]; then
    against=(--base "$from")
    say "comparing with ${from:0:10}"
else
    say "there is nothing to compare with: no remote branch, and no --base"
fi

# Bash 3 takes an empty list for an unset one.
check() { "$meshc" "${place[@]}" check ${against[@]+"${against[@]}"} --deny "$deny" "$@"; }

# Text that strangers have a part in; the runner must not take a line of it for a command.
show() {
    local stop
    if [ "$platform" != github ]; then
        cat "$1"
        return
    fi
    stop=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
    printf '::stop-commands::%s\n' "$stop"
    cat "$1"
    printf '\n::%s::\n' "$stop"
}

checked=0
check --format human >"$scratch/check" 2>&1 || checked=$?
worse "$checked"
if [ "$platform" = github ] && [ "$checked" -lt 2 ]; then
    check --format github || true
else
    show "$scratch/check"
fi
if [ -n "$sarif" ] && [ "$checked" -lt 2 ]; then
    check --format sarif >"$scratch/sarif" || true
    cp "$scratch/sarif" "$sarif" || cannot "$sarif can't be written"
fi

tested=0
"$meshc" "${place[@]}" test ${min_coverage:+--min-coverage "$min_coverage"} >"$scratch/test" 2>&1 || tested=$?
worse "$tested"
show "$scratch/test"

: >"$scratch/diff"
if [ -n "$from" ]; then
    compared=0
    "$meshc" "${place[@]}" diff "$from" HEAD --format markdown >"$scratch/diff" 2>"$scratch/diff-failed" || compared=$?
    # A head with errors has no meaning to compare, and `check` has said what is wrong with it.
    if [ "$compared" -ne 0 ]; then
        : >"$scratch/diff"
        [ "$checked" -ne 0 ] || worse "$compared"
        cat "$scratch/diff-failed" >&2
    fi
fi

# One comment for each policy root of a repository.
marker="<!-- meshc $(printf '%s' "$directory" | tr -c 'A-Za-z0-9._/-' '_') -->"

# Text of programs, so that nothing in it can end the block or mean anything.
block() {
    printf '\n<details><summary>%s</summary>\n\n````text\n' "$1"
    # Backticks are data here.
    # shellcheck disable=SC2016
    head -c 20000 "$2" | sed 's/````/` ` ` `/g'
    printf '\n````\n\n</details>\n'
}

# Nothing, where the change means nothing and nothing is wrong.
body() {
    [ -s "$scratch/diff" ] || [ "$status" -ne 0 ] || return 0
    printf '%s\n' "$marker"
    if [ -s "$scratch/diff" ]; then
        # The platforms refuse longer comments.
        head -c 30000 "$scratch/diff"
        [ "$(wc -c <"$scratch/diff")" -le 30000 ] || printf '\n\n… and more, which meshc diff shows.\n'
    elif [ -n "$from" ] && [ "$checked" -eq 0 ]; then
        printf 'Requests, access, retries and slices stay as they are.\n'
    fi
    [ "$checked" -eq 0 ] || block 'meshc check fails' "$scratch/check"
    # Policies that don't compile have no tests, and their findings stand above.
    if [ "$tested" -ne 0 ] && { [ "$checked" -eq 0 ] || grep -q ' failed$' "$scratch/test"; }; then
        block 'meshc test fails' "$scratch/test"
    fi
}
body >"$scratch/body"

# The token stays out of the list of processes.
ask() {
    local method=$1 url=$2
    shift 2
    case $platform in
        github) printf 'header = "Authorization: Bearer %s"\nheader = "Accept: application/vnd.github+json"\n' "$token" ;;
        gitlab) printf 'header = "PRIVATE-TOKEN: %s"\n' "$token" ;;
    esac | curl --silent --show-error --fail --max-time 60 --config - --request "$method" "$@" "$url"
}

# The comments of a pull request, a page at a time, until ours is among them.
own_comment() {
    local page=1 found
    while [ "$page" -le 30 ]; do
        if [ "$platform" = github ] && [ -n "$gh" ]; then
            found=$("$gh" api "$comments?per_page=100&page=$page")
        else
            found=$(ask GET "$comments?per_page=100&page=$page")
        fi || return 1
        printf '%s' "$found" | jq -r --arg marker "$marker" \
            '[.[] | select(.body | startswith($marker)) | .id] | first // empty' >"$scratch/id" || return 1
        if [ -s "$scratch/id" ] || [ "$(printf '%s' "$found" | jq length)" -lt 100 ]; then
            cat "$scratch/id"
            return 0
        fi
        page=$((page + 1))
    done
}

write_comment() {
    local id method url
    id=$(own_comment) || return 1
    if [ -s "$scratch/body" ]; then
        method=POST url=$comments
        if [ -n "$id" ]; then
            url=$comment_of/$id
            if [ "$platform" = github ]; then method=PATCH; else method=PUT; fi
        fi
        jq -Rs '{body: .}' "$scratch/body" >"$scratch/json" || return 1
    elif [ -n "$id" ]; then
        # What it said is no longer so.
        method=DELETE url=$comment_of/$id
        printf '{}' >"$scratch/json"
    else
        return 0
    fi
    if [ "$platform" = github ] && [ -n "$gh" ]; then
        "$gh" api --method "$method" "$url" --input "$scratch/json" >/dev/null
    else
        ask "$method" "$url" --header 'Content-Type: application/json' --data-binary "@$scratch/json" >/dev/null
    fi
}

case $comment in
    print) cat "$scratch/body" ;;
    never) ;;
    post)
        [ -n "$request" ] || cannot "there is no pull request to comment on"
        gh=$(command -v gh || true)
        case $platform in
            github)
                in_repository=repos/${GITHUB_REPOSITORY:?is not set}/issues
                [ -n "$gh" ] || in_repository=${GITHUB_API_URL:-https://api.github.com}/$in_repository
                comments=$in_repository/$request/comments comment_of=$in_repository/comments
                ;;
            gitlab)
                comments=${CI_API_V4_URL:?is not set}/projects/${CI_PROJECT_ID:?is not set}/merge_requests/$request/notes
                comment_of=$comments
                ;;
            none) cannot "comments are posted on github and gitlab; --comment print shows this one" ;;
        esac
        if ! command -v jq >/dev/null 2>&1 || { [ -z "$gh" ] && ! command -v curl >/dev/null 2>&1; }; then
            cannot "to post a comment, jq is needed, and gh or curl"
        fi
        if ! write_comment; then
            say "the comment could not be posted; here it is"
            [ "$platform" != github ] || printf '::warning title=meshc::the comment could not be posted\n'
            cat "$scratch/body"
        fi
        ;;
esac
[ -z "${GITHUB_STEP_SUMMARY:-}" ] || cat "$scratch/body" >>"$GITHUB_STEP_SUMMARY"

exit "$status"
