//! Sets of public keys that stand in the repository: whether they are one, and hold nothing private.

use mesh_engine::jwt::{Key, KeySetError};
use mesh_syntax::{Diagnostic, FileId, Span};
use serde_json::Value;

use crate::code;
use crate::limits;

/// Members of a key that only its owner may know: RFC 7518, sections 6.2.2, 6.3.2 and 6.4.1.
const PRIVATE: &[&str] = &["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// What is wrong with a file of keys.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// Not JSON, or no set of keys.
    NotASet(String),
    /// No key in it verifies tokens.
    NoneUsable,
    /// A member of a key that is private.
    Private { key: usize, member: String },
}

/// Everything wrong with a set of keys, in the order of its keys.
pub(super) fn problems(text: &str) -> Vec<Problem> {
    if text.len() > limits::KEY_SET_BYTES_MAX {
        let most = limits::KEY_SET_BYTES_MAX;
        return vec![Problem::NotASet(format!("it has more than {most} bytes"))];
    }
    // serde_json bounds how deep values nest.
    let value: Value = match serde_json::from_str(text) {
        Ok(value) => value,
        Err(error) => return vec![Problem::NotASet(format!("it is not JSON: {error}"))],
    };
    let Some(keys) = value.get("keys").and_then(Value::as_array) else {
        return vec![Problem::NotASet("it has no list `keys`".to_owned())];
    };
    if keys.is_empty() {
        return vec![Problem::NotASet("its list `keys` is empty".to_owned())];
    }
    let mut problems = Vec::new();
    for (index, key) in keys.iter().enumerate() {
        let Some(key) = key.as_object().filter(|key| key.contains_key("kty")) else {
            problems.push(Problem::NotASet(format!(
                "key {} is none: it has no `kty`",
                index + 1
            )));
            continue;
        };
        let private = PRIVATE.iter().find(|member| key.contains_key(**member));
        problems.extend(private.map(|member| Problem::Private {
            key: index + 1,
            member: (*member).to_owned(),
        }));
    }
    if problems.is_empty() {
        // What proxies would make of it.
        match Key::parse_set(text.as_bytes()) {
            Ok(usable) if usable.is_empty() => problems.push(Problem::NoneUsable),
            Err(error @ (KeySetError::TooManyKeys | KeySetError::TooLarge)) => {
                problems.push(Problem::NotASet(format!("it has {error}")));
            }
            Err(KeySetError::Malformed) => {
                problems.push(Problem::NotASet("a member of it is there twice".to_owned()));
            }
            Ok(_) | Err(KeySetError::Private(_) | KeySetError::NoneUsable) => {}
        }
    }
    problems
}

pub(super) fn finding(problem: &Problem, at: Span, file: FileId, text: &str) -> Diagnostic {
    let whole = Span::new(file, 0, text.len().min(1));
    match problem {
        Problem::NotASet(why) => Diagnostic::error(
            code::KEY_SET,
            at,
            format!("this file is no set of keys: {why}"),
        )
        .label(whole, "the file")
        .help("a JSON Web Key Set is `{ \"keys\": [ … ] }`, as RFC 7517 has it"),
        Problem::NoneUsable => Diagnostic::error(
            code::KEY_SET,
            at,
            "no key in this file verifies tokens",
        )
        .label(whole, "the file")
        .help("proxies take RSA of 2,048 to 8,192 bits, EC over P-256, P-384 and P-521, and Ed25519, each for `\"use\": \"sig\"` and with the `alg` of its kind"),
        Problem::Private { key, member } => Diagnostic::error(
            code::KEY_SET,
            at,
            format!("key {key} of this file is private: it has the member `{member}`"),
        )
        .label(whole, "the file")
        .help("whoever reads the repository can sign tokens with it: replace the key at its issuer, and keep only the public one here"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_keys_are_a_set() {
        let key = format!(r#""kty":"OKP","crv":"Ed25519","x":"{}""#, "A".repeat(43));
        assert_eq!(problems(&format!(r#"{{"keys":[{{{key}}}]}}"#)), []);
        for unusable in [
            r#"{"kty":"EC","crv":"P-256","x":"a","y":"b"}"#.to_owned(),
            format!(r#"{{{key},"use":"enc"}}"#),
            format!(r#"{{{key},"alg":"HS256"}}"#),
        ] {
            let text = format!(r#"{{"keys":[{unusable}]}}"#);
            assert_eq!(problems(&text), [Problem::NoneUsable], "{text}");
        }
        let twice = format!(r#"{{"keys":[{{{key},"x":"a"}}]}}"#);
        assert!(
            matches!(&problems(&twice)[..], [Problem::NotASet(_)]),
            "{twice}"
        );
        for private in [r#""d":"x""#, r#""k":"x""#, r#""p":"x","q":"y""#] {
            let text = format!(r#"{{"keys":[{{"kty":"EC"}},{{"kty":"RSA",{private}}}]}}"#);
            assert!(
                matches!(&problems(&text)[..], [Problem::Private { key: 2, .. }]),
                "{text}"
            );
        }
        for wrong in [
            "",
            "[]",
            "{}",
            r#"{"keys":{}}"#,
            r#"{"keys":[]}"#,
            r#"{"keys":[{}]}"#,
        ] {
            assert!(
                matches!(&problems(wrong)[..], [Problem::NotASet(_)]),
                "{wrong}"
            );
        }
        let deep = "[".repeat(100_000);
        assert!(matches!(&problems(&deep)[..], [Problem::NotASet(_)]));
    }
}
