#!/usr/bin/env bash
# Opens the bookshop in a headless Neovim with ci/editor/neovim/meshc.lua: findings, definition and rename.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cp -R "$here/../../policies/examples/bookshop/." "$folder"
# A root for the client, as in anybody's repository.
mkdir "$folder/.git"
result=$folder/result.txt
cd "$folder"
# -n: no swap files; --clean: nobody's configuration.
MESHC="$MESHC" RESULT="$result" timeout 120 nvim --headless --clean -n \
    --cmd "let g:meshc_path = '$MESHC'" \
    --cmd "luafile $here/../../ci/editor/neovim/meshc.lua" \
    teams/reviews/reviews.kdl \
    -c "luafile $here/neovim.lua" || true
if [ "$(cat "$result" 2> /dev/null)" != ok ]; then
    echo "tests/editor: neovim: $(cat "$result" 2> /dev/null || echo 'it said nothing')" >&2
    exit 1
fi
echo "neovim: findings, definition, rename and formatting"
