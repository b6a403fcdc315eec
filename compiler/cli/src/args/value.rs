//! What options take, read from the words of a command line.

use mesh_compiler::date::Date;
use mesh_compiler::value::is_token;

pub(super) fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.0..=1.0).contains(&rate) => Ok(rate),
        _ => Err("a rate is a number from 0 to 1".to_owned()),
    }
}

/// Of 10,000.
pub(super) fn percent(text: &str) -> Result<u32, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse::<f64>();
    match number {
        Ok(number) if (0.0..=100.0).contains(&number) => {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "from 0 to 10,000"
            )]
            let share = (number * 100.0).round() as u32;
            Ok(share)
        }
        _ => Err("a share is written as 90%, from 0% to 100%".to_owned()),
    }
}

pub(super) fn date(text: &str) -> Result<Date, String> {
    Date::parse(text).ok_or_else(|| "a day is written as 2027-03-01".to_owned())
}

pub(super) fn ref_name(text: &str) -> Result<String, String> {
    if mesh_repo::Repository::is_ref_name(text) {
        return Ok(text.to_owned());
    }
    Err("a ref is named in full, as in refs/heads/main".to_owned())
}

/// A folder of a repository has one spelling; what leads out of it has none.
pub(super) fn root_path(text: &str) -> Result<String, String> {
    let path = text.trim_end_matches('/');
    let is_name =
        |name: &str| !matches!(name, "" | "." | "..") && !name.chars().any(char::is_control);
    if path.is_empty() || path.split('/').all(is_name) {
        return Ok(path.to_owned());
    }
    Err(
        "a policy root is a folder of the repository, as in `policies/shop`, without `.` and `..`"
            .to_owned(),
    )
}

pub(super) fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if is_token(name) && !value.chars().any(char::is_control) => {
            Ok((name.to_lowercase(), value.to_owned()))
        }
        _ => Err("a header is NAME=VALUE, its name without blanks".to_owned()),
    }
}

pub(super) fn claim(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("a claim is NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ref_is_named_in_full() {
        assert!(ref_name("refs/heads/main").is_ok());
        for not in [
            "main",
            "x y",
            "refs/heads/x y",
            "refs/heads/",
            "refs/heads/../x",
            "--x",
            "",
        ] {
            assert!(ref_name(not).is_err(), "{not}");
        }
    }

    #[test]
    fn a_policy_root_is_inside_of_the_repository() {
        assert_eq!(root_path("").as_deref(), Ok(""));
        assert_eq!(root_path("policies/shop/").as_deref(), Ok("policies/shop"));
        for not in ["../x", "a/../b", "/etc", "./a", "a//b", "a\nb"] {
            assert!(root_path(not).is_err(), "{not}");
        }
    }
}
