//! The one comment on a pull request: posted, kept up to date, taken back.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use mesh_tests::Failure;

use crate::api::Api;
use crate::support::{BREAK, Pull, REVIEWS, SHIFT, commit, git, said, script, tool};

const TOKEN: &str = "secret-of-the-job";

/// The programs that the script may use, and no others.
fn path_of(folder: &Path, also: &[&str]) -> Result<Option<std::path::PathBuf>, Failure> {
    let place = folder.join("bin");
    std::fs::create_dir_all(&place)?;
    let needed = [
        "bash", "cat", "env", "git", "grep", "head", "mktemp", "od", "rm", "sed", "tr", "wc", "jq",
    ];
    for name in needed.iter().chain(also) {
        let Some(found) = tool(name)? else {
            return Ok(None);
        };
        let link = place.join(name);
        if !link.exists() {
            symlink(found, link)?;
        }
    }
    Ok(Some(place))
}

fn on_github(pull: &Pull, api: &Api, path: &Path) -> Result<Command, Failure> {
    let mut command = script(&pull.clone)?;
    command
        .env("PATH", path)
        .env("GITHUB_ACTIONS", "true")
        .env("GITHUB_REF", "refs/pull/7/merge")
        .env("GITHUB_BASE_REF", "main")
        .env("GITHUB_REPOSITORY", "shop/policies")
        .env("GITHUB_API_URL", format!("http://{}", api.address))
        .env("GH_TOKEN", TOKEN);
    Ok(command)
}

fn on_gitlab(pull: &Pull, api: &Api, path: &Path) -> Result<Command, Failure> {
    let mut command = script(&pull.clone)?;
    command
        .env("PATH", path)
        .env("GITLAB_CI", "true")
        .env("CI_MERGE_REQUEST_IID", "7")
        .env("CI_MERGE_REQUEST_TARGET_BRANCH_NAME", "main")
        .env("CI_PROJECT_ID", "12")
        .env("CI_API_V4_URL", format!("http://{}/api/v4", api.address))
        .env("MESH_GITLAB_TOKEN", TOKEN);
    Ok(command)
}

/// Plays a pull request from its first commit to the one that takes everything back.
fn story(
    others: u64,
    run: impl Fn(&Pull, &Api) -> Result<Command, Failure>,
    expected: [&str; 3],
    authorization: &str,
) -> Result<(), Failure> {
    let pull = Pull::new(&SHIFT)?;
    let api = Api::start(others)?;
    let step = |code: i32| -> Result<Vec<String>, Failure> {
        let told = said(&mut run(&pull, &api)?)?;
        assert_eq!(told.code, Some(code), "{told:?}");
        assert!(
            !told.out.contains(TOKEN) && !told.err.contains(TOKEN),
            "{told:?}"
        );
        let asked = api.asked();
        assert!(
            asked.iter().all(|asked| asked.head.contains(authorization)),
            "{asked:?}"
        );
        Ok(asked
            .into_iter()
            .map(|asked| asked.what)
            .filter(|what| !what.starts_with("GET "))
            .collect())
    };
    let [posted, updated, deleted] = expected.map(|what| vec![what.to_owned()]);
    assert_eq!(step(0)?, posted);
    let first = api.own();
    assert!(
        first.len() == 1 && first[0].contains("reviews"),
        "{first:?}"
    );

    commit(&pull.clone, REVIEWS, &BREAK)?;
    assert_eq!(step(1)?, updated);
    let second = api.own();
    assert!(
        second.len() == 1 && second[0].contains("meshc check fails"),
        "{second:?}"
    );
    assert_ne!(first, second);

    git(&pull.clone, &["reset", "--quiet", "--hard", "HEAD~2"])?;
    assert_eq!(step(0)?, deleted);
    assert_eq!(api.own(), Vec::<String>::new());
    assert_eq!(
        step(0)?,
        Vec::<String>::new(),
        "nothing to say and nothing said"
    );
    Ok(())
}

#[test]
fn github_gets_one_comment_by_curl() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let Some(path) = path_of(folder.path(), &["curl"])? else {
        return Ok(());
    };
    // More than a page of others, so that the own one is on the second.
    let expected = [
        "POST /repos/shop/policies/issues/7/comments",
        "PATCH /repos/shop/policies/issues/comments/121",
        "DELETE /repos/shop/policies/issues/comments/121",
    ];
    let run = |pull: &Pull, api: &Api| on_github(pull, api, &path);
    story(120, run, expected, &format!("Bearer {TOKEN}"))
}

#[test]
fn gitlab_gets_one_note() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let Some(path) = path_of(folder.path(), &["curl"])? else {
        return Ok(());
    };
    let expected = [
        "POST /api/v4/projects/12/merge_requests/7/notes",
        "PUT /api/v4/projects/12/merge_requests/7/notes/1",
        "DELETE /api/v4/projects/12/merge_requests/7/notes/1",
    ];
    let run = |pull: &Pull, api: &Api| on_gitlab(pull, api, &path);
    story(0, run, expected, TOKEN)
}

/// `gh` as far as the script uses it: it puts the address before what it is asked.
#[test]
fn github_gets_one_comment_by_gh() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let Some(path) = path_of(folder.path(), &["curl"])? else {
        return Ok(());
    };
    let gh = path.join("gh");
    let script = "#!/usr/bin/env bash\n\
        set -euo pipefail\n\
        [ \"$1\" = api ]; shift\n\
        method=GET data=()\n\
        while [ $# -gt 0 ]; do case $1 in\n\
          --method) method=$2; shift 2 ;;\n\
          --input) data=(--data-binary \"@$2\"); shift 2 ;;\n\
          *) target=$1; shift ;;\n\
        esac; done\n\
        exec curl --silent --fail --request \"$method\" ${data[@]+\"${data[@]}\"} \\\n\
          --header \"Authorization: token $GH_TOKEN\" \"$GITHUB_API_URL/$target\"\n";
    std::fs::write(&gh, script)?;
    std::fs::set_permissions(&gh, std::fs::Permissions::from_mode(0o755))?;
    let expected = [
        "POST /repos/shop/policies/issues/7/comments",
        "PATCH /repos/shop/policies/issues/comments/1",
        "DELETE /repos/shop/policies/issues/comments/1",
    ];
    let run = |pull: &Pull, api: &Api| on_github(pull, api, &path);
    story(0, run, expected, &format!("token {TOKEN}"))
}

/// The token of a pull request from a fork may not write; the result must not depend on it.
#[test]
fn a_comment_that_may_not_be_posted_fails_nothing() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let Some(path) = path_of(folder.path(), &["curl"])? else {
        return Ok(());
    };
    let pull = Pull::new(&SHIFT)?;
    let api = Api::start(0)?;
    api.refuse();
    let told = said(&mut on_github(&pull, &api, &path)?)?;
    assert_eq!(told.code, Some(0), "{told:?}");
    assert!(told.out.contains("::warning title=meshc::"), "{told:?}");
    assert!(
        told.out.contains("<!-- meshc . -->"),
        "it is printed instead: {told:?}"
    );
    Ok(())
}
