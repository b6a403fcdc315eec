//! The reference page of the language, from its declarations.

use std::collections::BTreeMap;

use super::{Args, KEYWORDS, Keyword, LATER};
use crate::value::Kind;

/// Every word as Markdown, in the order of the table.
pub fn reference() -> String {
    let mut text = String::from(
        "# Keywords\n\n\
         Made from the declarations in `compiler/core/src/keyword`; change those, not this page.\n\
         `[…]` is optional, `…` means one or more. Names and words are bare, data is quoted.\n",
    );
    for keyword in KEYWORDS {
        section(&mut text, keyword);
    }
    text.push_str("\n## Not in this release\n\n");
    text.push_str(
        "Words of the language that are refused by name until something carries them out.\n\n",
    );
    let mut later: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for word in LATER {
        later
            .entry(word.name)
            .or_default()
            .extend(word.stands.iter().map(|place| place.describe()));
    }
    for (word, places) in later {
        line(&mut text, &format!("- `{word}` {}", places.join(", ")));
    }
    text
}

fn section(text: &mut String, keyword: &Keyword) {
    line(text, &format!("\n## `{}`\n", heading(keyword)));
    line(text, &format!("{}\n", keyword.summary));
    let places: Vec<&str> = keyword
        .stands
        .iter()
        .map(|place| place.describe())
        .collect();
    line(text, &format!("Stands {}.", places.join(", ")));
    let rows = rows(keyword);
    if rows.is_empty() {
        return;
    }
    text.push_str("\n| | Takes | |\n|---|---|---|\n");
    for (name, kind, summary) in rows {
        line(text, &format!("| `{name}` | {} | {summary} |", takes(kind)));
    }
}

fn heading(keyword: &Keyword) -> String {
    let Args {
        leading,
        rest,
        required,
    } = keyword.args;
    let mut heading = keyword.name.to_owned();
    let arguments = leading
        .iter()
        .map(|arg| arg.name.to_owned())
        .chain(rest.map(|arg| format!("{}…", arg.name)));
    for (index, name) in arguments.enumerate() {
        heading = if index < required {
            format!("{heading} {name}")
        } else {
            format!("{heading} [{name}]")
        };
    }
    if keyword.labels.is_some() {
        heading.push_str(" LABEL=VALUE…");
    }
    if keyword.block.is_some() {
        heading.push_str(" { }");
    }
    heading
}

fn rows(keyword: &Keyword) -> Vec<(String, &'static Kind, &'static str)> {
    let Args { leading, rest, .. } = keyword.args;
    let arguments = leading.iter().copied().chain(rest);
    let arguments = arguments.map(|arg| (arg.name.to_owned(), arg.kind, ""));
    let props = keyword
        .props
        .iter()
        .map(|prop| (format!("{}=", prop.name), prop.kind, prop.summary));
    arguments.chain(props).collect()
}

fn takes(kind: &Kind) -> String {
    if kind.words.is_empty() {
        return kind.expected.to_owned();
    }
    let words: Vec<String> = kind.words.iter().map(|word| format!("`{word}`")).collect();
    words.join(", ")
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}
