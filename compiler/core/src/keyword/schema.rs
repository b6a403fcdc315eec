//! The published schema: the declarations in the KDL Schema Language, for editors and other tools.
//!
//! It says what may stand where. What a value must be beyond a closed list of words is said in words: the
//! compiler is what judges it.

use super::{KEYWORDS, Keyword, Place, Repeats, words_in};
use crate::value::Kind;

/// The version of the KDL Schema Language that the schema is written in.
pub const SCHEMA_LANGUAGE: &str = "2.0.0";

/// Where a file of each kind begins.
const TOPS: [Place; 4] = [
    Place::Root,
    Place::Environment,
    Place::TestFile,
    Place::InventoryFile,
];

/// The whole schema.
pub fn schema() -> String {
    let mut schema = Writer::default();
    schema.line(&format!(
        "// The policy language, in the KDL Schema Language {SCHEMA_LANGUAGE}."
    ));
    schema.line(
        "// Made from the declarations in compiler/core/src/keyword; change those, not this file.",
    );
    schema.open("document");
    schema.open("info");
    schema.line("title \"Mesh policies\" lang=en");
    schema.line(&format!("version {}", quoted(env!("CARGO_PKG_VERSION"))));
    schema.close();
    for (index, keyword) in KEYWORDS.iter().enumerate() {
        let tops: Vec<&str> = TOPS
            .into_iter()
            .filter(|top| keyword.stands.contains(top))
            .map(Place::describe)
            .collect();
        // One name is one node of a document, whichever kind of file it stands in.
        let seen = |other: &&Keyword| {
            other.name == keyword.name && TOPS.iter().any(|top| other.stands.contains(top))
        };
        if !tops.is_empty() && !KEYWORDS.iter().take(index).any(seen) {
            let description = quoted(&format!("Stands {}.", tops.join(", ")));
            schema.line(&format!(
                "node {} ref={} description={description}",
                quoted(keyword.name),
                reference(&id(keyword))
            ));
        }
    }
    schema.open("definitions");
    for keyword in KEYWORDS {
        node(&mut schema, keyword);
    }
    for place in blocks() {
        schema.open(&format!("children id={}", quoted(&block_id(place))));
        for keyword in words_in(place) {
            schema.line(&format!(
                "node {} ref={}",
                quoted(keyword.name),
                reference(&id(keyword))
            ));
        }
        schema.close();
    }
    schema.close();
    schema.close();
    schema.text
}

fn node(schema: &mut Writer, keyword: &'static Keyword) {
    schema.open(&format!(
        "node {} id={} description={}",
        quoted(keyword.name),
        quoted(&id(keyword)),
        quoted(keyword.summary)
    ));
    if keyword.repeats == Repeats::Once {
        schema.line("max 1");
    }
    if keyword.labels.is_some() {
        schema.line("other-props-allowed #true");
    }
    let required = keyword.args.required;
    for (index, argument) in keyword.args.leading.iter().enumerate() {
        let min = usize::from(index < required);
        let bounds = format!("min {min}; max 1");
        value(schema, "value", argument.name, argument.kind, &bounds);
    }
    if let Some(rest) = keyword.args.rest {
        let min = required.saturating_sub(keyword.args.leading.len());
        value(schema, "value", rest.name, rest.kind, &format!("min {min}"));
    }
    for property in keyword.props {
        let bounds = if property.required {
            "required #true"
        } else {
            ""
        };
        let head = format!("prop {}", quoted(property.name));
        value(schema, &head, property.summary, property.kind, bounds);
    }
    if let Some(place) = keyword.block {
        schema.line(&format!("children ref={}", reference(&block_id(place))));
    }
    schema.close();
}

fn value(schema: &mut Writer, head: &str, summary: &str, kind: &Kind, bounds: &str) {
    let description = quoted(&format!("{summary}: {}", kind.expected).replace(".:", ":"));
    let mut inside = Vec::new();
    if !bounds.is_empty() {
        inside.push(bounds.to_owned());
    }
    if !kind.words.is_empty() {
        let words: Vec<String> = kind.words.iter().map(|word| quoted(word)).collect();
        inside.push("type string".to_owned());
        inside.push(format!("enum {}", words.join(" ")));
    }
    if inside.is_empty() {
        schema.line(&format!("{head} description={description}"));
    } else {
        schema.line(&format!(
            "{head} description={description} {{ {} }}",
            inside.join("; ")
        ));
    }
}

/// Every place that is the block of a word, once.
fn blocks() -> Vec<Place> {
    let mut blocks: Vec<Place> = KEYWORDS
        .iter()
        .filter_map(|keyword| keyword.block)
        .collect();
    blocks.sort_unstable();
    blocks.dedup();
    blocks
}

/// One word has several declarations for several places; the first of its places tells them apart.
fn id(keyword: &Keyword) -> String {
    let place = keyword.stands.first().map(|place| format!("{place:?}"));
    format!("{}-in-{}", keyword.name, place.unwrap_or_default())
}

fn block_id(place: Place) -> String {
    format!("block-of-{place:?}")
}

/// A reference is a KDL query.
fn reference(id: &str) -> String {
    format!("#\"[id=\"{id}\"]\"#")
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            _ => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

#[derive(Default)]
struct Writer {
    text: String,
    depth: usize,
}

impl Writer {
    fn line(&mut self, line: &str) {
        let indent = "    ".repeat(self.depth);
        self.text.extend([&indent, line, "\n"]);
    }

    fn open(&mut self, head: &str) {
        self.line(&format!("{head} {{"));
        self.depth += 1;
    }

    fn close(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        self.line("}");
    }
}
