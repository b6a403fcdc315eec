#!/usr/bin/env bash
# Before a commit: the policies that are about to be committed are checked, tested and compared with HEAD.
#
# As a hook of git:       ln -s ../../path/to/mesh-check.sh .git/hooks/pre-commit
# With pre-commit:        .pre-commit-hooks.yaml of this repository names it
# MESHC names the program, MESH_DIRECTORY the policy root [default: the top of the repository].
#
# What is looked at is the index, not the work tree: that is what the commit will hold.
set -euo pipefail

meshc=${MESHC:-meshc}
top=$(git rev-parse --show-toplevel)
directory=${MESH_DIRECTORY:-.}

# Nothing of policy changes: nothing to say.
against=$(git rev-parse --verify --quiet HEAD || git hash-object -t tree /dev/null)
if git -C "$top" diff --cached --quiet "$against" -- '*.kdl' '*.jwks.json'; then
    exit 0
fi

if ! command -v "$meshc" >/dev/null 2>&1; then
    echo "mesh-check: there is no \`$meshc\` here; install it, or name it with MESHC" >&2
    exit 2
fi

# Without links in it, as messages name it.
scratch=$(cd "$(mktemp -d)" && pwd -P)
trap 'rm -rf "$scratch"' EXIT
git -C "$top" checkout-index --all --prefix="$scratch/index/"
staged=$scratch/index/$directory

status=0
# What could not run is said of the repository, and not of the copy, which is gone when somebody reads it.
"$meshc" -C "$staged" check 2>"$scratch/said" || status=$?
sed "s#$scratch/index#.#g" "$scratch/said" >&2
tested=0
"$meshc" -C "$staged" test >"$scratch/test" 2>&1 || tested=$?
[ "$tested" -eq 0 ] || sed "s#$scratch/index#.#g" "$scratch/test"
[ "$tested" -le "$status" ] || status=$tested

# What it means, where it means something at all. A commit that nothing names is gone with the next `git gc`.
if [ "$status" -eq 0 ] && git -C "$top" rev-parse --verify --quiet HEAD >/dev/null; then
    commit=$(git -C "$top" commit-tree "$(git -C "$top" write-tree)" -p HEAD -m 'what is staged')
    # A HEAD that did not compile must not keep what mends it from being committed.
    "$meshc" -C "$top/$directory" diff HEAD "$commit" || :
fi
exit "$status"
