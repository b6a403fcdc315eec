//! What there is to choose from: the texts that a real request can have in each place.

use std::sync::LazyLock;

use super::language::Pattern;

/// Normalised paths: they begin with a slash, slashes are merged, there is no `.` or `..` segment,
/// and an escape stands only for what may not stand for itself.
pub(super) static PATH: LazyLock<Pattern> = LazyLock::new(|| {
    let escape = "%(?:2[0235]|3[CEF]|5[BDE]|60|7[BCD]|[89A-F][0-9A-F])";
    let byte = format!(r"(?:[A-Za-z0-9_~!$&'()*+,=:@\-]|{escape})");
    let segment = format!(r"(?:{byte}|\.{byte}|\.\.(?:\.|{byte}))(?:\.|{byte})*");
    regex(&format!("/(?:{segment}/)*(?:{segment})?"))
});

/// Hosts in lower case, without port or trailing dot; also bracketed IPv6 addresses.
pub(super) static HOST: LazyLock<Pattern> =
    LazyLock::new(|| regex(r"[a-z0-9_\-]+(?:\.[a-z0-9_\-]+)*|\[[0-9a-f:.]+\]"));

/// Identities of callers; the empty text is a peer without one.
pub(super) static CALLER: LazyLock<Pattern> =
    LazyLock::new(|| regex(r"|spiffe://[a-z0-9._\-]+(?:/[A-Za-z0-9._\-]+)+"));

/// Values of headers: no control characters, and no blank at either end.
pub(super) static HEADER: LazyLock<Pattern> = LazyLock::new(|| {
    let visible = r"[!-~\x80-\xff]";
    regex(&format!(r"(?:{visible}(?:[\t ]*{visible})*)?"))
});

/// Values of cookies, as the engine cuts them out of a header: no semicolon, no blank at the end.
pub(super) static COOKIE: LazyLock<Pattern> =
    LazyLock::new(|| regex(r"(?:[\t !-:<-~\x80-\xff]*[!-:<-~\x80-\xff])?"));

/// Any other value.
pub(super) static VALUE: LazyLock<Pattern> = LazyLock::new(|| Pattern::prefix("", false));

fn regex(pattern: &str) -> Pattern {
    Pattern::regex(pattern, false).expect("the patterns above are small and regular")
}

#[cfg(test)]
mod tests {
    use super::super::language::Language;
    use super::*;

    #[track_caller]
    fn check(universe: &Pattern, has: &[&str], lacks: &[&str]) {
        let find = |text| {
            let only = Language::any_of(vec![Pattern::literal(text, false)]);
            only.shortest(universe).unwrap().is_some()
        };
        for text in has {
            assert!(find(text), "{text:?} should be there");
        }
        for text in lacks {
            assert!(!find(text), "{text:?} should not be there");
        }
    }

    #[test]
    fn universes_have_what_requests_can_have() {
        check(
            &PATH,
            &[
                "/", "/a", "/a/", "/a/b.c", "/...", "/.a", "/%20", "/%3F", "/:",
            ],
            &[
                "", "a", "//", "/.", "/a/../b", "/a?b", "/%41", "/%2F", "/%3A",
            ],
        );
        check(
            &HOST,
            &["a", "a.b-c.d", "[::1]"],
            &["", "A", "a..b", "a.", "a:80"],
        );
        check(
            &CALLER,
            &["", "spiffe://d/service/a"],
            &["spiffe://d", "a", "spiffe://d/a/"],
        );
        check(&HEADER, &["", "a b", "é"], &[" a", "a ", "a\n"]);
        check(&COOKIE, &["", "a=b", "a b"], &["a;b", "a "]);
        check(&VALUE, &["", "a\nb"], &[]);
    }
}
