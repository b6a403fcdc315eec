//! Counts what the readers look at, so that a test can tell work that grows with the text from work that grows faster,
//! without a clock. Nothing is counted outside of tests.

#[cfg(test)]
use std::cell::Cell;

#[cfg(test)]
thread_local! {
    static LOOKED_AT: Cell<usize> = const { Cell::new(0) };
}

/// Some bytes, or one place, of a text were looked at.
#[cfg_attr(
    not(test),
    expect(clippy::inline_always, reason = "it is nothing, wherever it stands")
)]
#[cfg_attr(not(test), inline(always))]
pub(super) fn looked_at(places: usize) {
    #[cfg(test)]
    LOOKED_AT.with(|count| count.set(count.get() + places));
    #[cfg(not(test))]
    let _ = places;
}

#[cfg(test)]
mod tests {
    use super::super::lower::lower;
    use super::super::plain::plain;
    use super::super::scan::scan;
    use super::*;
    use crate::{SourceSet, limits};

    /// What this thread looks at in reading a text both ways, and in lowering what the walk leaves: of what goes to the
    /// `kdl` crate each byte counts once.
    fn work(text: &str) -> usize {
        assert!(text.len() <= limits::FILE_BYTES_MAX);
        let mut sources = SourceSet::new();
        let file = sources.add("a.kdl", text.as_bytes().to_vec());
        LOOKED_AT.with(|count| count.set(0));
        drop(plain(file, text, 0..text.len()));
        let scan = scan(file, text, &[]);
        for chunk in &scan.chunks {
            drop(lower(file, &scan, chunk));
        }
        LOOKED_AT.with(Cell::get)
    }

    /// Four times the text is about four times the work, whatever the text is made of.
    #[track_caller]
    fn grows_with_the_text(shape: &str, text: impl Fn(usize) -> String) {
        const N: usize = 500;
        let (once, four_times) = (work(&text(N)), work(&text(4 * N)));
        assert!(once >= N, "{shape}: {once} places for {N}");
        // What a text costs apart from its length, a look ahead at each end, is the rest.
        assert!(
            four_times * 2 <= once * 9,
            "{shape}: {once} places, and {four_times} for four times the text"
        );
    }

    #[test]
    fn hostile_texts_are_read_in_linear_time() {
        type Shape = (&'static str, fn(usize) -> String);
        let shapes: &[Shape] = &[
            ("short nodes", |n| "a\n".repeat(n)),
            ("nodes on one line", |n| "a;".repeat(n)),
            ("one node of many words", |n| {
                "a".to_owned() + &" b".repeat(n)
            }),
            ("properties", |n| {
                let all: Vec<String> = (0..n).map(|number| format!(" p{number}=1")).collect();
                "a".to_owned() + &all.concat()
            }),
            ("blocks", |n| "a { b; c 1; }\n".repeat(n)),
            ("braces to the bound", |n| {
                let depth = limits::NESTING_MAX - 1;
                (("a {".repeat(depth)) + &"}".repeat(depth) + "\n").repeat(n / 4)
            }),
            ("braces beyond the bound", |n| {
                "a {".repeat(n) + &"}".repeat(n)
            }),
            ("open braces", |n| "a {\n".repeat(n)),
            ("bare open braces", |n| "{".repeat(n)),
            ("closing braces", |n| "}".repeat(n)),
            ("unclosed blocks at the margin", |n| "a {\n b\n".repeat(n)),
            ("a long word", |n| "a".repeat(n)),
            ("a long string", |n| format!("a \"{}\"\n", "x".repeat(n))),
            ("a long string of escapes", |n| {
                format!("a \"{}\"\n", "\\n".repeat(n))
            }),
            ("an unclosed string", |n| format!("a \"{}", "x".repeat(n))),
            ("unclosed strings", |n| "a \"b\n".repeat(n)),
            ("a string of many lines", |n| {
                format!("a \"\"\"\n{}  \"\"\"\n", "  x\n".repeat(n))
            }),
            ("unclosed strings of many lines", |n| "a \"\"\"\n".repeat(n)),
            ("a raw string", |n| format!("a #\"{}\"#\n", "\"".repeat(n))),
            ("hashes", |n| format!("a {}", "#".repeat(n))),
            ("hashes and quotes", |n| "a #\"b\n".repeat(n)),
            ("nodes commented out", |n| "/- a { b; }\n".repeat(n)),
            ("nothing commented out", |n| "/- ".repeat(n)),
            ("comments out within", |n| {
                "a /-{".repeat(n) + &"}".repeat(n)
            }),
            ("unclosed comments out", |n| "a /-{ ".repeat(n)),
            ("entries commented out", |n| {
                "a".to_owned() + &" /-b".repeat(n)
            }),
            ("nested comments", |n| "/*".repeat(n) + &"*/".repeat(n)),
            ("unclosed comments", |n| "a /* b\n".repeat(n)),
            ("comments between", |n| "a ".to_owned() + &"/**/".repeat(n)),
            ("line comments", |n| "// a\n".repeat(n)),
            ("lines joined", |n| "a ".to_owned() + &"\\\n".repeat(n)),
            ("spaces", |n| " ".repeat(n)),
            ("spaces before what is missing", |n| {
                format!("a b{}=", " ".repeat(n))
            }),
            ("equal signs", |n| "a =".repeat(n)),
            ("commas", |n| "a b,".repeat(n)),
            ("types", |n| "(a)b ".repeat(n)),
            ("open parentheses", |n| "a (".repeat(n)),
            ("templates without quotes", |n| {
                "a /x/{".to_owned() + &"b".repeat(n) + "\n"
            }),
            ("many templates without quotes", |n| "a /{b}/{\n".repeat(n)),
            ("backslashes", |n| "a \\".repeat(n)),
            ("characters that are forbidden", |n| "a \u{202E}".repeat(n)),
        ];
        for (shape, text) in shapes {
            grows_with_the_text(shape, text);
        }
    }

    #[test]
    #[should_panic(expected = "for four times the text")]
    fn work_that_grows_faster_is_found() {
        // Within what the counter counts, the squares of these lengths.
        grows_with_the_text("a square", |n| "a".repeat(n * n / 100));
    }
}
