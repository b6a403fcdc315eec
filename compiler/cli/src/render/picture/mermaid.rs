//! The call graph for Mermaid, which hosting services draw in Markdown.

use std::fmt::Write as _;

use super::{Kind, Picture, Weight};

/// `meshc graph --format mermaid`
pub(crate) fn mermaid(picture: &Picture) -> String {
    let mut text = String::new();
    let written = write(&mut text, picture);
    written.expect("a string takes everything that is written to it");
    text
}

fn write(text: &mut String, picture: &Picture) -> std::fmt::Result {
    writeln!(text, "flowchart LR")?;
    writeln!(text, "    accTitle: {}", escaped(&picture.name))?;
    writeln!(text, "    accDescr: {}", escaped(&picture.summary()))?;
    for (index, shape) in picture.boxes.iter().enumerate() {
        let mut label = escaped(&shape.name);
        if let Some(line) = &shape.calls {
            label = format!("{label}<br/>{}", escaped(line));
        }
        let (open, close) = match shape.kind {
            Kind::Service | Kind::Unmeshed => ("(", ")"),
            Kind::Gateway => ("{{", "}}"),
            Kind::External => ("([", "])"),
            Kind::Side => ("[[", "]]"),
        };
        let class = match (shape.is_storm, shape.is_in_round) {
            (true, _) => ":::storm",
            (_, true) => ":::round",
            _ if matches!(shape.kind, Kind::External | Kind::Unmeshed) => ":::outside",
            _ if shape.is_entry => ":::entry",
            _ => "",
        };
        writeln!(text, "    n{index}{open}\"{label}\"{close}{class}")?;
    }
    for line in &picture.lines {
        let arrow = match line.weight {
            Weight::Permitted | Weight::Side => "-.->",
            Weight::Plain | Weight::Round => "-->",
            Weight::Storm => "==>",
        };
        let label = if line.tag.is_empty() {
            String::new()
        } else {
            format!("|\"{}\"|", escaped(&line.tag))
        };
        writeln!(text, "    n{} {arrow}{label} n{}", line.from, line.to)?;
    }
    writeln!(text, "    classDef entry stroke-width:3px")?;
    writeln!(text, "    classDef outside stroke-dasharray:5 4")?;
    writeln!(text, "    classDef round stroke:#7b1fa2,stroke-width:2px")?;
    writeln!(text, "    classDef storm stroke:#c62828,stroke-width:3px")?;
    for (weight, style) in [
        (Weight::Round, "stroke:#7b1fa2,stroke-dasharray:6 4"),
        (Weight::Storm, "stroke:#c62828,stroke-width:3px"),
    ] {
        let lines = picture.lines.iter().enumerate();
        let of = lines.filter(|(_, line)| line.weight == weight);
        let of: Vec<String> = of.map(|(index, _)| index.to_string()).collect();
        if !of.is_empty() {
            writeln!(text, "    linkStyle {} {style}", of.join(","))?;
        }
    }
    Ok(())
}

/// Everything but plain characters as an entity: nothing ends the label or becomes markup.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for char in text.chars() {
        let is_plain = char.is_alphanumeric() || " .-_:,≤×∞%".contains(char);
        if is_plain {
            escaped.push(char);
        } else if char.is_control() {
            escaped.push(' ');
        } else {
            escaped = format!("{escaped}#{};", u32::from(char));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_becomes_markup() {
        assert_eq!(escaped("a-1.b"), "a-1.b");
        assert_eq!(escaped("x\"<b>\n"), "x#34;#60;b#62; ");
    }
}
