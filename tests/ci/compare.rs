//! What a change is compared with, and what is said of it.

use mesh_tests::Failure;

use crate::support::{BREAK, Pull, REMARK, SHIFT, commit, git, said, script};

#[test]
fn a_change_is_compared_with_what_it_started_from() -> Result<(), Failure> {
    let pull = Pull::new(&SHIFT)?;
    let told = said(&mut script(&pull.clone)?)?;
    assert_eq!(told.code, Some(0), "{told:?}");
    let from = pull.from.get(..10).unwrap_or_default();
    assert!(
        told.err.contains(&format!("comparing with {from}")),
        "{told:?}"
    );
    let body = told
        .out
        .split("<!-- meshc . -->")
        .nth(1)
        .unwrap_or_default();
    assert!(
        body.contains("reviews") && body.contains("/opinions"),
        "{told:?}"
    );
    assert!(
        !body.contains("details"),
        "what `main` did since is not the branch's: {body}"
    );
    let again = said(&mut script(&pull.clone)?)?;
    assert_eq!(again.out, told.out, "the same change reads the same");
    Ok(())
}

#[test]
fn nothing_is_said_of_a_change_that_means_nothing() -> Result<(), Failure> {
    let pull = Pull::new(&REMARK)?;
    let told = said(&mut script(&pull.clone)?)?;
    assert_eq!(told.code, Some(0), "{told:?}");
    assert!(!told.out.contains("<!-- meshc"), "{told:?}");
    Ok(())
}

#[test]
fn errors_fail_and_stand_at_their_lines() -> Result<(), Failure> {
    let pull = Pull::new(&BREAK)?;
    let summary = pull.folder().join("summary");
    let told = said(
        script(&pull.clone)?
            .env("GITHUB_ACTIONS", "true")
            .env("GITHUB_REF", "refs/pull/7/merge")
            .env("GITHUB_BASE_REF", "main")
            .env("GITHUB_STEP_SUMMARY", &summary),
    )?;
    assert_eq!(told.code, Some(1), "{told:?}");
    let annotation = told.out.lines().find(|line| line.starts_with("::error "));
    let annotation = annotation.ok_or_else(|| Failure::new(format!("{told:?}")))?;
    assert!(
        annotation.contains("file=teams/reviews/reviews.kdl,line="),
        "{annotation}"
    );
    assert!(
        told.out.contains("meshc check fails"),
        "without a token the comment is printed: {told:?}"
    );
    let summary = std::fs::read_to_string(summary)?;
    assert!(summary.contains("MSH0305"), "{summary}");
    Ok(())
}

#[test]
fn a_failed_test_fails_and_is_shown() -> Result<(), Failure> {
    let pull = Pull::new(&SHIFT)?;
    let edits = [(
        "expect allowed route=testers to=v2",
        "expect allowed route=everyone",
    )];
    commit(&pull.clone, "tests/reviews.test.kdl", &edits)?;
    let told = said(&mut script(&pull.clone)?)?;
    assert_eq!(told.code, Some(1), "{told:?}");
    assert!(told.out.contains("meshc test fails"), "{told:?}");
    Ok(())
}

/// As the checkout step of a CI leaves it: one commit of one branch.
#[test]
fn a_shallow_clone_gets_the_history_that_it_lacks() -> Result<(), Failure> {
    let pull = Pull::new(&SHIFT)?;
    let shallow = pull.folder().join("shallow");
    let words = ["clone", "--quiet", "--depth", "1", "--branch", "topic"];
    let url = pull.url();
    let place = shallow.display().to_string();
    git(pull.folder(), &[&words[..], &[&url, &place]].concat())?;
    let told = said(
        script(&shallow)?
            .env("GITLAB_CI", "true")
            .env("CI_MERGE_REQUEST_IID", "7")
            .env("CI_MERGE_REQUEST_TARGET_BRANCH_NAME", "main"),
    )?;
    assert_eq!(told.code, Some(0), "{told:?}");
    let from = pull.from.get(..10).unwrap_or_default();
    assert!(
        told.err.contains(&format!("comparing with {from}")),
        "{told:?}"
    );
    Ok(())
}

#[test]
fn what_cannot_run_says_what_to_do() -> Result<(), Failure> {
    let pull = Pull::new(&SHIFT)?;
    git(&pull.clone, &["switch", "--quiet", "--orphan", "strange"])?;
    git(
        &pull.clone,
        &[
            "commit",
            "--quiet",
            "--allow-empty",
            "--message",
            "Another beginning",
        ],
    )?;
    git(&pull.clone, &["branch", "--quiet", "other", "HEAD"])?;
    git(&pull.clone, &["switch", "--quiet", "topic"])?;
    let cases: [(&[&str], &str); 6] = [
        (
            &["--base", "other"],
            "no commit in common; name another with --base",
        ),
        (
            &["--base", "nowhere"],
            "there is no commit `nowhere`; fetch it, or name another with --base",
        ),
        (&["--directory", "nowhere"], "there is no folder `nowhere`"),
        (
            &["--comment", "post"],
            "there is no pull request to comment on",
        ),
        (&["--frobnicate"], "there is no option --frobnicate"),
        (&["--deny"], "--deny needs a value"),
    ];
    for (words, expected) in cases {
        let told = said(script(&pull.clone)?.args(words))?;
        assert_eq!(told.code, Some(2), "{words:?}: {told:?}");
        assert!(told.err.contains(expected), "{words:?}: {told:?}");
    }
    let told = said(script(&pull.clone)?.env("MESHC", "no-such-meshc"))?;
    assert_eq!(told.code, Some(2), "{told:?}");
    assert!(
        told.err.contains("there is no `no-such-meshc` here"),
        "{told:?}"
    );
    Ok(())
}

#[test]
fn what_is_not_there_is_said_before_anything_runs() -> Result<(), Failure> {
    let pull = Pull::new(&SHIFT)?;
    let told = said(script(&pull.clone)?.args(["--sarif", "missing/findings.sarif"]))?;
    assert_eq!(told.code, Some(2), "{told:?}");
    assert!(told.err.contains("no folder `missing`"), "{told:?}");
    let told = said(script(&pull.clone)?.args(["--base", "nope"]))?;
    assert_eq!(told.code, Some(2), "{told:?}");
    assert!(told.err.contains("there is no commit `nope`"), "{told:?}");
    let told = said(script(&pull.clone)?.args(["--sarif", "findings.sarif"]))?;
    assert_eq!(told.code, Some(0), "{told:?}");
    let written = std::fs::read_to_string(pull.clone.join("findings.sarif"))?;
    assert!(written.contains("\"version\":\"2.1.0\""), "{written}");
    Ok(())
}
