//! `tracestate`: what each system that follows a trace says of it, passed on within bounds (W3C Trace Context section
//! 3.3).

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

use crate::limits;

const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Takes it out.
pub(super) fn remove(headers: &mut HeaderMap) {
    headers.remove(TRACESTATE);
}

/// Makes it one line within bounds; what is malformed says nothing.
pub(super) fn tidy(headers: &mut HeaderMap) {
    let mut lines = headers.get_all(TRACESTATE).iter();
    let (Some(first), second) = (lines.next(), lines.next()) else {
        return;
    };
    let is_short = first.len() <= limits::TRACESTATE_BYTES_MAX;
    let read = |line: &HeaderValue| members(line).map(|members| members.len());
    let few = |count| count <= limits::TRACESTATE_MEMBERS_MAX;
    if second.is_none() && is_short && read(first).is_some_and(few) {
        return;
    }
    let all: Option<Vec<_>> = headers.get_all(TRACESTATE).iter().map(members).collect();
    let all: Vec<String> = all.unwrap_or_default().into_iter().flatten().collect();
    match HeaderValue::try_from(bounded(all)) {
        Ok(value) if !value.is_empty() => {
            headers.insert(TRACESTATE, value);
        }
        _ => remove(headers),
    }
}

/// The members of a line; none: one of them is none.
fn members(line: &HeaderValue) -> Option<Vec<String>> {
    let text = line.to_str().ok()?;
    let members = text
        .split(',')
        .map(|member| member.trim_matches([' ', '\t']));
    let members = members.filter(|member| !member.is_empty());
    members
        .map(|member| is_member(member).then(|| member.to_owned()))
        .collect()
}

fn is_member(member: &str) -> bool {
    let Some((key, value)) = member.split_once('=') else {
        return false;
    };
    let of_key =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/@".contains(&byte);
    let begins = key
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let of_value = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'=';
    begins
        && key.len() <= 256
        && key.bytes().all(of_key)
        && (1..=256).contains(&value.len())
        && value.bytes().all(of_value)
}

/// Long members go first, then the last (section 3.3.1.5).
fn bounded(mut members: Vec<String>) -> String {
    const LONG: usize = 128;
    let is_over = |members: &[String]| {
        let bytes: usize = members.iter().map(|member| member.len() + 1).sum();
        members.len() > limits::TRACESTATE_MEMBERS_MAX || bytes > limits::TRACESTATE_BYTES_MAX
    };
    if is_over(&members) {
        members.retain(|member| member.len() <= LONG);
    }
    while is_over(&members) {
        members.pop();
    }
    members.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tidied(lines: &[&str]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(TRACESTATE, line.parse().unwrap());
        }
        tidy(&mut headers);
        let lines = headers.get_all(TRACESTATE).iter();
        lines
            .map(|line| line.to_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn it_is_passed_on_within_bounds() {
        assert_eq!(tidied(&["a=1, b@c=2"]), ["a=1, b@c=2"]);
        assert_eq!(tidied(&["a=1", "b=2,,c=3"]), ["a=1,b=2,c=3"]);
        for bad in ["a", "A=1", "a=1,b", "a=", "a=b=c", "\u{e9}=1"] {
            assert_eq!(tidied(&[bad]), Vec::<String>::new(), "{bad}");
        }
        let many: Vec<String> = (0..40).map(|at| format!("k{at}=v")).collect();
        let [kept] = tidied(&[&many.join(",")]).try_into().unwrap();
        assert_eq!(kept.split(',').count(), limits::TRACESTATE_MEMBERS_MAX);
        let mut long: Vec<String> = (0..8)
            .map(|at| format!("k{at}={}", "v".repeat(200)))
            .collect();
        long.push("mine=1".to_owned());
        assert_eq!(tidied(&[&long.join(",")]), ["mine=1"]);
    }
}
