//! Keys, tokens and passwords that stand in policy files. Whoever can read a repository, now or later, has what is in
//! it, comments included; so the text is looked at, and not what it means.

use std::sync::Arc;

use mesh_syntax::{Diagnostic, FileId, SourceSet, Span};
use rayon::prelude::*;

use crate::code;
use crate::limits;

/// Headers, cookies and parameters that carry who somebody is.
const CREDENTIALS: &[&str] = &[
    "access-token",
    "access_token",
    "api-key",
    "api_key",
    "apikey",
    "authorization",
    "proxy-authorization",
    "x-api-key",
    "x-auth-token",
];

/// What a private key in PEM ends its first line with (RFC 7468).
const PRIVATE_KEY: &str = "PRIVATE KEY-----";

/// Whether a header, cookie or parameter of this name carries a credential.
pub(crate) fn is_credential(name: &str) -> bool {
    CREDENTIALS
        .iter()
        .any(|known| known.eq_ignore_ascii_case(name))
}

/// What to do about any of them.
pub(crate) const HELP: &str =
    "take it out and replace it where it is valid: it stays in the history of the repository";

/// What was found in each file of some sources, by its position; none: not known.
pub(crate) type Known = Vec<Option<Arc<[Diagnostic]>>>;

/// Keys and tokens in the files that are asked for, in the order of files and places. A file that is known is not looked
/// at again, and the others are known then.
pub(crate) fn findings(
    sources: &SourceSet,
    wanted: impl Fn(&str) -> bool + Sync,
    mut known: Option<&mut Known>,
) -> Vec<Diagnostic> {
    let files: Vec<FileId> = sources
        .files()
        .filter(|file| {
            // What is wrong with a file of keys is said of its keys.
            let path = sources.path(*file);
            !path.ends_with(mesh_syntax::KEY_SET_SUFFIX) && wanted(path)
        })
        .collect();
    let before = known.as_deref();
    let found: Vec<Arc<[Diagnostic]>> = files
        .par_iter()
        .map(|file| {
            let file = *file;
            let known = before.and_then(|known| known.get(file.index())?.as_ref());
            if let Some(known) = known {
                return Arc::clone(known);
            }
            let text = sources.text(file).unwrap_or_default();
            in_text(text)
                .into_iter()
                .take(limits::FINDINGS_MAX)
                .map(|secret| finding(file, &secret))
                .collect()
        })
        .collect();
    if let Some(known) = &mut known {
        for (file, found) in files.iter().zip(&found) {
            if let Some(known) = known.get_mut(file.index()) {
                *known = Some(Arc::clone(found));
            }
        }
    }
    found
        .iter()
        .flat_map(|found| found.iter().cloned())
        .collect()
}

fn finding(file: FileId, secret: &Secret) -> Diagnostic {
    let span = Span::new(file, secret.start, secret.end);
    let finding = Diagnostic::warning(
        code::SECRET,
        span,
        format!(
            "this is {}, for everybody who reads the repository",
            secret.what
        ),
    )
    .help(HELP);
    if secret.what == KEY {
        finding
    } else {
        // It has the form of one; it may be an example, or expired long since.
        finding.possible()
    }
}

const KEY: &str = "a private key";

struct Secret {
    start: usize,
    end: usize,
    what: &'static str,
}

fn in_text(text: &str) -> Vec<Secret> {
    let mut found: Vec<Secret> = text
        .match_indices(PRIVATE_KEY)
        .filter_map(|(at, _)| {
            let line = text.get(..at)?;
            let start = line.rfind("-----BEGIN ")?;
            let between = line.get(start..)?;
            (between.len() < 48 && !between.contains('\n')).then_some(Secret {
                start,
                end: at + PRIVATE_KEY.len(),
                what: KEY,
            })
        })
        .collect();
    let mut start = None;
    for (at, byte) in text.bytes().chain([b' ']).enumerate() {
        match (start, is_of_token(byte)) {
            (None, true) => start = Some(at),
            (Some(begin), false) => {
                start = None;
                let word = text.get(begin..at).unwrap_or_default();
                if let Some(what) = token(word) {
                    found.push(Secret {
                        start: begin,
                        end: at,
                        what,
                    });
                }
            }
            _ => {}
        }
    }
    found.sort_by_key(|secret| secret.start);
    found
}

const fn is_of_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

/// Shortest token that any of the forms below has.
const TOKEN_BYTES_MIN: usize = 20;

/// Which token has this form, by what its issuer lets all of them begin with.
fn token(word: &str) -> Option<&'static str> {
    if word.len() < TOKEN_BYTES_MIN {
        return None;
    }
    let after = |prefixes: &[&str]| prefixes.iter().find_map(|prefix| word.strip_prefix(prefix));
    let plain = |rest: &str| rest.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if let Some(rest) = after(&["AKIA", "ASIA"]) {
        let is_id = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
        return (rest.len() == 16 && rest.bytes().all(is_id)).then_some("the id of an AWS key");
    }
    if let Some(rest) = after(&["ghp_", "gho_", "ghu_", "ghs_", "ghr_"]) {
        return (rest.len() >= 36 && plain(rest)).then_some("a token of GitHub");
    }
    if let Some(rest) = after(&["github_pat_"]) {
        return (rest.len() >= 22).then_some("a token of GitHub");
    }
    if let Some(rest) = after(&["glpat-"]) {
        return (rest.len() >= 20).then_some("a token of GitLab");
    }
    if let Some(rest) = after(&["xoxb-", "xoxp-", "xoxa-", "xoxr-", "xoxs-"]) {
        return rest
            .contains(|letter: char| letter.is_ascii_digit())
            .then_some("a token of Slack");
    }
    if let Some(rest) = after(&["sk_live_", "rk_live_"]) {
        return (rest.len() >= 16 && plain(rest)).then_some("a key of Stripe");
    }
    if let Some(rest) = after(&["AIza"]) {
        return (rest.len() == 35).then_some("a key of Google");
    }
    // A header and claims in JSON, which begin with `{"` in base64url (RFC 7519, 3).
    if word.starts_with("eyJ") {
        let mut parts = word.split('.');
        let long = |part: Option<&str>| part.is_some_and(|part| part.len() >= 8);
        let is_token = long(parts.next())
            && parts
                .next()
                .is_some_and(|part| part.len() >= 8 && part.starts_with("eyJ"))
            && long(parts.next())
            && parts.next().is_none();
        return is_token.then_some("a signed token (JWT)");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_util;

    #[track_caller]
    fn check(text: &str, wanted: &[&str]) {
        let found: Vec<&str> = in_text(text).iter().map(|secret| secret.what).collect();
        assert_eq!(found, wanted, "{text}");
    }

    #[test]
    fn what_issuers_begin_their_tokens_with_is_known() {
        check("a \"AKIAIOSFODNN7EXAMPLE\"", &["the id of an AWS key"]);
        let github = format!("// ghp_{}", "a1".repeat(18));
        check(&github, &["a token of GitHub"]);
        check(
            "-----BEGIN EC PRIVATE KEY-----\nMHc\n-----END EC PRIVATE KEY-----",
            &[KEY],
        );
        check(
            "\"Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl\"",
            &["a signed token (JWT)"],
        );
    }

    #[test]
    fn what_only_looks_like_it_is_none() {
        check("AKIAIOSFODNN7EXAMPLEANDMORE", &[]);
        check("-----BEGIN PUBLIC KEY-----", &[]);
        check("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0", &[]);
        check("sk_live_short", &[]);
        check("service xoxb-reviews-and-ratings-of-books { }", &[]);
        check("PRIVATE KEY-----", &[]);
    }

    #[test]
    fn findings_do_not_repeat_what_they_found() {
        let text = test_util::findings(
            "// AKIAIOSFODNN7EXAMPLE
service a {
    port 80
    route all {
        request-headers { set authorization \"Basic dXNlcjpwYXNz\"; set x-shop \"books\" }
    }
    allow unauthenticated { header x-api-key \"k-1\"; header authorization prefix=\"Bearer \" }
}
",
        );
        let messages: Vec<&str> = text.lines().filter(|line| line.contains("[MSH")).collect();
        assert!(
            messages
                .iter()
                .all(|line| !line.contains("AKIA") && !line.contains("dXN"))
        );
        insta::assert_snapshot!(text);
    }
}
