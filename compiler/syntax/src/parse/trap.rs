//! The messages for what KDL answers unhelpfully, or accepts and reads as something else.
//!
//! Each says what is wrong, why, and what to write instead, with an edit where one is certain.

use crate::diagnostic::{Code, code};
use crate::{Diagnostic, Edit, Span};

fn syntax(span: Span, message: impl Into<String>) -> Diagnostic {
    Diagnostic::error(code::SYNTAX_ERROR, span, message)
}

/// The KDL 2 string for a text: raw if it holds what would need an escape.
fn quote(text: &str) -> String {
    if !text.contains(['"', '\\']) {
        return format!("\"{text}\"");
    }
    let mut marks = String::from("#");
    while text.contains(&format!("\"{marks}")) {
        marks.push('#');
    }
    format!("{marks}\"{text}\"{marks}")
}

fn quoted_instead(diagnostic: Diagnostic, span: Span, run: &str) -> Diagnostic {
    let quoted = quote(run);
    diagnostic
        .help(format!("write {quoted}"))
        .fix("put it in quotes", vec![Edit::new(span, quoted)])
}

/// `10s`, `5xx`, `20%`, `10.0.0.7:9080`.
pub(super) fn not_a_number(span: Span, run: &str) -> Diagnostic {
    let diagnostic = syntax(span, format!("`{run}` must be quoted"))
        .at("a bare value that begins with a digit can only be a number");
    quoted_instead(diagnostic, span, run)
}

/// `/a`, `http://x`, `10.0.0.0/8`, `text/html`.
pub(super) fn bare_slash(span: Span, run: &str) -> Diagnostic {
    let diagnostic = if run.contains("//") {
        syntax(span, format!("`{run}` must be quoted"))
            .at("unquoted, everything from `//` on is a comment")
    } else if run.contains("/*") {
        syntax(span, format!("`{run}` must be quoted")).at("unquoted, `/*` begins a comment")
    } else {
        syntax(span, format!("`{run}` must be quoted")).at("`/` can't be in a bare value")
    };
    quoted_instead(diagnostic, span, run)
}

/// `[a-z]+`, `a(b)`, `a\b`.
pub(super) fn bare_punctuation(span: Span, run: &str) -> Diagnostic {
    let at = run
        .chars()
        .find(|char| r##"\()[]"#="##.contains(*char))
        .unwrap_or('#');
    let diagnostic = syntax(span, format!("`{run}` must be quoted"))
        .at(format!("`{at}` can't be in a bare value"));
    quoted_instead(diagnostic, span, run)
}

/// `GET,POST`. `spaced` is the same line with spaces for commas, as far as `span` goes.
pub(super) fn comma(span: Span, run: &str, spaced: &str) -> Diagnostic {
    let spaced = spaced.trim_end();
    syntax(
        span,
        format!("the values of a list are separated by spaces, not commas: `{run}` is one word"),
    )
    .help(format!("write {spaced}"))
    .fix(
        "separate the values by spaces",
        vec![Edit::new(span, spaced)],
    )
}

/// `"GET","POST"`.
pub(super) fn comma_between(span: Span, glued: bool) -> Diagnostic {
    syntax(
        span,
        "the values of a list are separated by spaces, not commas",
    )
    .fix(
        "separate the values by spaces",
        vec![Edit::new(span, if glued { " " } else { "" })],
    )
}

/// `007`, `1.10`.
pub(super) fn lossy_number(span: Span, run: &str) -> Diagnostic {
    let reads_as = run
        .replace('_', "")
        .parse::<f64>()
        .map_or_else(|_| "another number".to_owned(), |value| format!("{value}"));
    let diagnostic =
        syntax(span, format!("`{run}` is read as the number {reads_as}")).at("its zeros are lost");
    let quoted = quote(run);
    diagnostic
        .help(format!("write {quoted} if the zeros matter, or {reads_as}"))
        .unsafe_fix("put it in quotes", vec![Edit::new(span, quoted)])
}

/// `true`, `null`.
pub(super) fn keyword(span: Span, word: &str) -> Diagnostic {
    let diagnostic = Diagnostic::error(
        code::KDL_1_SPELLING,
        span,
        format!("`{word}` is a spelling of KDL 1"),
    );
    if word == "null" {
        return diagnostic
            .help("to unset a setting write `none`; as data write \"null\"")
            .unsafe_fix("write `none`", vec![Edit::new(span, "none")]);
    }
    let quoted = quote(word);
    diagnostic
        .help(format!(
            "policies have no booleans: a flag is on when it is there; as data write {quoted}"
        ))
        .unsafe_fix("put it in quotes", vec![Edit::new(span, quoted)])
}

/// `r"…"`.
pub(super) fn raw_string_1(span: Span, content: &str) -> Diagnostic {
    let marks = if content.contains("\"#") { "##" } else { "#" };
    let raw = format!("{marks}\"{content}\"{marks}");
    Diagnostic::error(
        code::KDL_1_SPELLING,
        span,
        "`r\"…\"` is how KDL 1 wrote a raw string",
    )
    .help(format!("write {raw}"))
    .fix("write it as KDL 2 does", vec![Edit::new(span, raw)])
}

/// `"\/"`, which KDL 1 allowed.
pub(super) fn slash_escape(span: Span, escape: Span) -> Diagnostic {
    Diagnostic::error(code::KDL_1_SPELLING, span, "`\\/` is an escape of KDL 1")
        .label(escape, "here")
        .help("write `/`, it needs no escape")
        .fix("drop the backslash", vec![Edit::new(escape, "/")])
}

/// `"\d"`: a string with an escape that KDL does not have.
pub(super) fn escape(span: Span, escape: Span, escape_text: &str, content: &str) -> Diagnostic {
    let diagnostic = syntax(escape, format!("`{escape_text}` is not an escape"));
    let means_an_escape = |pair: &[u8]| {
        pair.first() == Some(&b'\\')
            && pair
                .get(1)
                .is_some_and(|byte| b"\\\"bfnrtsu".contains(byte))
    };
    if content.as_bytes().windows(2).any(means_an_escape) {
        return diagnostic.help("write `\\\\` for a backslash");
    }
    let raw = quote(content);
    diagnostic
        .help(format!(
            "write `\\\\` for a backslash, or the string raw: {raw}"
        ))
        .unsafe_fix("make it a raw string", vec![Edit::new(span, raw)])
}

/// A string that its line does not close.
pub(super) fn unclosed_string(span: Span, multi_line: bool) -> Diagnostic {
    if multi_line {
        return syntax(span, "this string of several lines is never closed")
            .help("close it with `\"\"\"` on a line of its own");
    }
    syntax(span, "this string is not closed on its line")
        .help("add the closing quote; a text of several lines is written between `\"\"\"` lines")
}

/// Three quotes with text beside them.
pub(super) fn multi_line_shape(span: Span) -> Diagnostic {
    syntax(
        span,
        "the `\"\"\"` of a string of several lines stand alone on their lines",
    )
    .help("put the text on lines between them; they are part of nothing else")
}

/// Lines that do not begin as the closing one does.
pub(super) fn indentation(span: Span) -> Diagnostic {
    syntax(span, "a line of this string is indented less than its closing `\"\"\"`")
        .help("every line begins with the white space that stands before the closing `\"\"\"`, which is no part of the text")
}

pub(super) fn unclosed_comment(span: Span) -> Diagnostic {
    syntax(span, "this comment is never closed")
        .at("`/*` begins a comment")
        .help("close it with `*/`")
}

pub(super) fn nothing_commented_out(span: Span) -> Diagnostic {
    syntax(span, "there is nothing behind this `/-`")
        .help("it comments out the node, block, argument or property right behind it")
}

/// What a merge leaves in a file when both sides changed the same lines.
pub(super) fn merge_conflict(span: Span) -> Diagnostic {
    Diagnostic::error(code::MERGE_CONFLICT, span, "this file has a merge conflict")
        .at("from here to `>>>>>>>` it holds both sides")
        .help("keep what is meant of each side and remove the lines with `<<<<<<<`, `=======` and `>>>>>>>`")
}

pub(super) fn unclosed_block(open: Span) -> Diagnostic {
    syntax(open, "this block is never closed").at("no `}` belongs to it")
}

pub(super) fn stray_close(span: Span) -> Diagnostic {
    syntax(span, "this `}` closes nothing")
        .help("remove it, or look for a block that is closed too early above")
}

pub(super) fn too_deep(open: Span) -> Diagnostic {
    Diagnostic::error(
        code::LIMIT_EXCEEDED,
        open,
        format!(
            "blocks are nested more than {} deep",
            crate::limits::NESTING_MAX
        ),
    )
    .at("this block and all inside it are not read")
}

pub(super) fn too_many_items(at: Span) -> Diagnostic {
    Diagnostic::error(
        code::LIMIT_EXCEEDED,
        at,
        format!(
            "this file has more than {} nodes and values",
            crate::limits::ITEMS_MAX
        ),
    )
    .help("split the file")
}

pub(super) fn too_many_findings(at: Span) -> Diagnostic {
    Diagnostic::error(
        code::LIMIT_EXCEEDED,
        at,
        format!(
            "this file has more than {} mistakes; the rest of it is not read",
            crate::limits::FINDINGS_MAX
        ),
    )
}

pub(super) fn more_findings(at: Span) -> Diagnostic {
    Diagnostic::error(
        code::LIMIT_EXCEEDED,
        at,
        format!(
            "this file has more than {} mistakes; those from here on are not shown",
            crate::limits::FINDINGS_MAX
        ),
    )
}

pub(super) fn block_without_name(open: Span) -> Diagnostic {
    syntax(open, "this block has no name")
        .help("a block belongs to the node on whose line it begins, as in `route main {`")
}

pub(super) fn second_block(open: Span) -> Diagnostic {
    syntax(open, "a node has only one block")
        .help("begin a new line, or write `;` between two nodes")
}

pub(super) fn after_block(span: Span, run: &str) -> Diagnostic {
    let at = Span {
        end: span.start,
        ..span
    };
    syntax(span, format!("`{run}` follows a block on the same line"))
        .help("begin a new line, or write `;` before it")
        .fix("write `;` between them", vec![Edit::new(at, "; ")])
}

pub(super) fn equals_after_name(span: Span) -> Diagnostic {
    syntax(
        span,
        "a setting is written without `=`: its name, a space, its value",
    )
    .fix("write a space instead", vec![Edit::new(span, " ")])
}

pub(super) fn missing_value(span: Span, name: &str) -> Diagnostic {
    syntax(span, format!("`{name}=` has no value"))
}

pub(super) fn stray_equals(span: Span) -> Diagnostic {
    syntax(span, "this `=` belongs to no name").help("a property is one name, `=` and one value")
}

pub(super) fn annotation(span: Span, run: &str) -> Diagnostic {
    syntax(
        span,
        format!("`{run}` is a type annotation; policies have none"),
    )
    .fix("remove it", vec![Edit::new(span, "")])
}

pub(super) fn hash_comment(span: Span) -> Diagnostic {
    let mark = Span {
        end: span.start + 1,
        ..span
    };
    syntax(span, "comments begin with `//`, not `#`").fix("write `//`", vec![Edit::new(mark, "//")])
}

pub(super) fn number_as_name(span: Span, run: &str) -> Diagnostic {
    syntax(
        span,
        format!("`{run}` stands where a word of the language is expected"),
    )
}

pub(super) fn adjacent(span: Span) -> Diagnostic {
    let at = Span {
        end: span.start,
        ..span
    };
    syntax(span, "values are separated by spaces").fix("add the space", vec![Edit::new(at, " ")])
}

pub(super) fn continuation(span: Span) -> Diagnostic {
    syntax(
        span,
        "a `\\` outside a string continues the line, and must be the last on it",
    )
}

pub(super) fn utf16(start: Span) -> Diagnostic {
    syntax(start, "this file is UTF-16; policies are UTF-8").help("save the file as UTF-8")
}

pub(super) fn invalid_utf8(span: Span, count: usize) -> Diagnostic {
    let message = if count == 1 {
        "this byte is not UTF-8".to_owned()
    } else {
        format!("{count} bytes from here on are not UTF-8")
    };
    syntax(span, message).help("save the file as UTF-8")
}

pub(super) fn disallowed_character(span: Span, char: char, count: usize) -> Diagnostic {
    let what = match char {
        '\0' => "a NUL character",
        '\u{200E}'..='\u{2069}' => "an invisible character that reorders the text on screen",
        '\u{FEFF}' => "a byte-order mark that is not at the beginning",
        _ => "a control character",
    };
    let more = if count > 1 {
        format!(" (and {} more like it)", count - 1)
    } else {
        String::new()
    };
    syntax(
        span,
        format!("here is {what}, U+{:04X}{more}", u32::from(char)),
    )
    .help("remove it; in a string write it as an escape, `\\u{…}`")
    .fix("remove it", vec![Edit::new(span, "")])
}

/// What the parser refused although the walk let it pass.
pub(super) fn refused(span: Span, message: &str, help: Option<&str>) -> Diagnostic {
    let mut message = message.trim_end_matches('.').to_owned();
    if let Some(first) = message.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    let diagnostic = syntax(span, message);
    match help {
        Some(help) => diagnostic.help(help),
        None => diagnostic,
    }
}

pub(super) fn duplicate_property(span: Span, first: Span, name: &str) -> Diagnostic {
    let code: Code = code::DUPLICATE_SETTING;
    Diagnostic::error(code, span, format!("`{name}` is given twice"))
        .at("this one would silently win")
        .label(first, "first given here")
        .help("keep one of them")
}
