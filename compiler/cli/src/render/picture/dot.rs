//! The call graph for Graphviz.

use std::fmt::Write as _;

use super::{Kind, Picture, Weight};

/// `meshc graph --format dot`
pub(crate) fn dot(picture: &Picture) -> String {
    let mut text = String::new();
    let written = write(&mut text, picture);
    written.expect("a string takes everything that is written to it");
    text
}

fn write(text: &mut String, picture: &Picture) -> std::fmt::Result {
    writeln!(text, "digraph {} {{", quoted(&picture.name))?;
    writeln!(text, "    rankdir=LR")?;
    writeln!(text, "    tooltip={}", quoted(&picture.summary()))?;
    writeln!(
        text,
        "    node [fontname=\"monospace\", shape=box, style=rounded]"
    )?;
    writeln!(text, "    edge [fontname=\"monospace\", fontsize=10]")?;
    for shape in &picture.boxes {
        let outline = match shape.kind {
            Kind::Service => "shape=box, style=rounded",
            Kind::Gateway => "shape=hexagon, style=solid",
            Kind::External => "shape=ellipse, style=dashed",
            Kind::Unmeshed => "shape=box, style=\"rounded,dashed\"",
            Kind::Side => "shape=component, style=solid",
        };
        let mut label = shape.name.clone();
        if let Some(line) = &shape.calls {
            label = format!("{label}\n{line}");
        }
        let colour = match (shape.is_storm, shape.is_in_round) {
            (true, _) => ", color=\"#c62828\", penwidth=2",
            (_, true) => ", color=\"#7b1fa2\", penwidth=2",
            _ if shape.is_entry => ", penwidth=2",
            _ => "",
        };
        writeln!(
            text,
            "    {} [label={}, {outline}{colour}, tooltip={}]",
            quoted(&shape.name),
            quoted(&label),
            quoted(&shape.facts.join("\n"))
        )?;
    }
    for line in &picture.lines {
        let style = match line.weight {
            Weight::Permitted => "style=dotted, color=\"#9e9e9e\"",
            Weight::Side => "style=dashed",
            Weight::Plain => "style=solid",
            Weight::Round => "style=dashed, color=\"#7b1fa2\", penwidth=2",
            Weight::Storm => "style=solid, color=\"#c62828\", penwidth=2.5",
        };
        let ends = [line.from, line.to].map(|end| quoted(&picture.boxes[end].name));
        writeln!(
            text,
            "    {} -> {} [label={}, {style}, tooltip={}]",
            ends[0],
            ends[1],
            quoted(&line.tag),
            quoted(&line.facts.join("\n"))
        )?;
    }
    writeln!(text, "}}")
}

/// In a quoted string of DOT only the quote ends it, and a backslash begins an escape.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for char in text.chars() {
        match char {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            other if other.is_control() => quoted.push(' '),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_ends_its_string() {
        assert_eq!(quoted("a\"b\\c\nd\u{7}"), "\"a\\\"b\\\\c\\nd \"");
    }
}
