//! The call graph as one SVG that needs nothing else: it follows the reader's light or dark scheme, has a title and a
//! description, and every box and line says more when pointed at.

use std::fmt::Write as _;

use super::layout::Rect;
use super::{Kind, Picture, Weight};

mod scene;

use scene::{Label, Scene};

/// Colours and shapes. Storms, rounds and what is only permitted differ in their strokes, not in colour alone.
const STYLE: &str = "
svg{--bg:#fff;--ink:#1b1f24;--soft:#57606a;--line:#7d8590;--faint:#b6bec7;--box:#f6f8fa;--edge:#afb8c1;--entry:#0969da;--storm:#c62828;--round:#7b1fa2}
@media(prefers-color-scheme:dark){svg{--bg:#0d1117;--ink:#e6edf3;--soft:#9198a1;--line:#7d8590;--faint:#484f58;--box:#161b22;--edge:#484f58;--entry:#58a6ff;--storm:#ff7b72;--round:#d2a8ff}}
.page{fill:var(--bg)}
text{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono','Liberation Mono',monospace;fill:var(--ink);white-space:pre}
.head{font-size:16px;font-weight:600}
.name{font-size:13px;font-weight:600}
.sub,.tag,.legend{font-size:10px;fill:var(--soft)}
.outline{fill:var(--box);stroke:var(--edge);stroke-width:1.2}
.external .outline,.unmeshed .outline{stroke-dasharray:5 3}
.strip{fill:var(--entry)}
.storm .outline{stroke:var(--storm);stroke-width:2.2}
.round .outline{stroke:var(--round);stroke-width:1.8}
.line path{fill:none;stroke:var(--line);stroke-width:1.2}
.line.side path{stroke-dasharray:2 3}
.line.permitted path{stroke:var(--faint);stroke-dasharray:1 4}
.line.round path{stroke:var(--round);stroke-width:1.8;stroke-dasharray:7 3}
.line.storm path{stroke:var(--storm);stroke-width:2.6}
.line.storm .tag{fill:var(--storm);font-weight:600}
.line.round .tag{fill:var(--round)}
.tip{fill:var(--line)}.tip.permitted{fill:var(--faint)}.tip.round{fill:var(--round)}.tip.storm{fill:var(--storm)}
";

/// `meshc graph --format svg`
pub(crate) fn svg(picture: &Picture) -> String {
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    text.push_str(&element(picture));
    text
}

/// The `svg` element alone.
pub(super) fn element(picture: &Picture) -> String {
    let mut text = String::new();
    let written = write(&mut text, picture, &Scene::of(picture));
    written.expect("a string takes everything that is written to it");
    text
}

fn write(text: &mut String, picture: &Picture, scene: &Scene) -> std::fmt::Result {
    let (width, height) = (scene.width, scene.height);
    writeln!(
        text,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" aria-labelledby=\"mesh-title mesh-description\">"
    )?;
    writeln!(
        text,
        "<title id=\"mesh-title\">{}</title>",
        escaped(&picture.name)
    )?;
    writeln!(
        text,
        "<desc id=\"mesh-description\">{}{}</desc>",
        escaped(&picture.summary()),
        escaped(&picture.worst_sentence())
    )?;
    writeln!(text, "<style>{STYLE}</style>")?;
    writeln!(text, "<defs>")?;
    for weight in Weight::ALL {
        let class = weight.class();
        writeln!(
            text,
            "<marker id=\"tip-{class}\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"8\" markerHeight=\"8\" markerUnits=\"userSpaceOnUse\" orient=\"auto\"><path class=\"tip {class}\" d=\"M0 0.8L8 4L0 7.2Z\"/></marker>"
        )?;
    }
    writeln!(text, "</defs>")?;
    writeln!(
        text,
        "<rect class=\"page\" width=\"100%\" height=\"100%\"/>"
    )?;
    for label in &scene.heads {
        label.write(text)?;
    }
    // The gravest are drawn last, and so lie on top.
    let mut order: Vec<usize> = (0..picture.lines.len()).collect();
    order.sort_by_key(|index| picture.lines[*index].weight);
    for index in order {
        let line = &picture.lines[index];
        let class = line.weight.class();
        writeln!(
            text,
            "<g class=\"line {class}\" data-from=\"{}\" data-to=\"{}\"><title>{}</title>",
            line.from,
            line.to,
            escaped(&line.facts.join("\n"))
        )?;
        if let Some(path) = path(&scene.lines[index]) {
            writeln!(
                text,
                "<path d=\"{path}\" marker-end=\"url(#tip-{class})\"/>"
            )?;
        }
        if let Some(label) = &scene.tags[index] {
            label.write(text)?;
        }
        writeln!(text, "</g>")?;
    }
    for (index, shape) in picture.boxes.iter().enumerate() {
        let mut class = shape.kind.class().to_owned();
        if shape.is_storm {
            class.push_str(" storm");
        } else if shape.is_in_round {
            class.push_str(" round");
        }
        let name = escaped(&shape.name);
        writeln!(
            text,
            "<g class=\"box {class}\" data-box=\"{index}\" data-name=\"{name}\"><title>{name}\n{}</title>",
            escaped(&shape.facts.join("\n"))
        )?;
        outline(text, shape.kind, scene.boxes[index])?;
        if shape.is_entry {
            strip(text, scene.boxes[index])?;
        }
        for label in &scene.labels[index] {
            label.write(text)?;
        }
        writeln!(text, "</g>")?;
    }
    legend(text, scene)?;
    writeln!(text, "</svg>")
}

/// Straight and bent pieces in turn.
fn path(points: &[(f64, f64)]) -> Option<String> {
    let (first, rest) = points.split_first()?;
    let mut path = format!("M{:.1} {:.1}", first.0, first.1);
    let mut at = *first;
    for (index, point) in rest.iter().enumerate() {
        if index % 2 == 1 {
            let middle = f64::midpoint(at.0, point.0);
            path = format!(
                "{path}C{middle:.1} {:.1} {middle:.1} {:.1} {:.1} {:.1}",
                at.1, point.1, point.0, point.1
            );
        } else if (point.0 - at.0).abs() > 0.05 {
            path = format!("{path}L{:.1} {:.1}", point.0, point.1);
        }
        at = *point;
    }
    Some(path)
}

fn outline(text: &mut String, kind: Kind, rect: Rect) -> std::fmt::Result {
    let Rect {
        x,
        y,
        width,
        height,
    } = rect;
    let rounded = |text: &mut String, radius: f64| {
        writeln!(
            text,
            "<rect class=\"outline\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"{radius:.1}\"/>"
        )
    };
    match kind {
        Kind::Service | Kind::Unmeshed => rounded(text, 6.0),
        Kind::External => rounded(text, 20.0_f64.min(height / 2.0)),
        Kind::Gateway => {
            let (right, bottom, middle) = (x + width, y + height, y + height / 2.0);
            let (one, two) = (x + 10.0, right - 10.0);
            writeln!(
                text,
                "<path class=\"outline\" d=\"M{x:.1} {middle:.1}L{one:.1} {y:.1}L{two:.1} {y:.1}L{right:.1} {middle:.1}L{two:.1} {bottom:.1}L{one:.1} {bottom:.1}Z\"/>"
            )
        }
        Kind::Side => {
            rounded(text, 0.0)?;
            let (one, two, bottom) = (x + 4.0, x + width - 4.0, y + height);
            writeln!(
                text,
                "<path class=\"outline\" d=\"M{one:.1} {y:.1}L{one:.1} {bottom:.1}M{two:.1} {y:.1}L{two:.1} {bottom:.1}\"/>"
            )
        }
    }
}

/// Where requests come in.
fn strip(text: &mut String, rect: Rect) -> std::fmt::Result {
    writeln!(
        text,
        "<rect class=\"strip\" x=\"{:.1}\" y=\"{:.1}\" width=\"4\" height=\"{:.1}\" rx=\"2\"/>",
        rect.x - 2.0,
        rect.y + rect.height * 0.15,
        rect.height * 0.7
    )
}

fn legend(text: &mut String, scene: &Scene) -> std::fmt::Result {
    for entry in &scene.legend {
        match entry.sample {
            scene::Sample::Box(kind) => {
                writeln!(text, "<g class=\"{}\">", kind.class())?;
                outline(text, kind, entry.place)?;
            }
            scene::Sample::Entry => {
                writeln!(text, "<g class=\"service\">")?;
                outline(text, Kind::Service, entry.place)?;
                strip(text, entry.place)?;
            }
            scene::Sample::Line(weight) => {
                let class = weight.class();
                let y = entry.place.y + entry.place.height / 2.0;
                writeln!(
                    text,
                    "<g class=\"line {class}\"><path d=\"M{:.1} {y:.1}L{:.1} {y:.1}\" marker-end=\"url(#tip-{class})\"/>",
                    entry.place.x,
                    entry.place.x + entry.place.width
                )?;
            }
            scene::Sample::Words => writeln!(text, "<g>")?,
        }
        entry.label.write(text)?;
        writeln!(text, "</g>")?;
    }
    Ok(())
}

impl Label {
    fn write(&self, text: &mut String) -> std::fmt::Result {
        writeln!(
            text,
            "<text class=\"{}\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            self.class,
            self.rect.x,
            self.baseline(),
            escaped(&self.text)
        )
    }
}

impl Weight {
    const ALL: [Self; 5] = [
        Self::Permitted,
        Self::Side,
        Self::Plain,
        Self::Round,
        Self::Storm,
    ];
}

/// Text of an element or attribute.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' => escaped.push('\n'),
            // XML has no way to write these.
            other if other.is_control() || matches!(other, '\u{fffe}' | '\u{ffff}') => {
                escaped.push('\u{fffd}');
            }
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::{Line, Shape};
    use super::*;

    /// A picture of so many services, each of which calls some of those after it, and a round.
    pub(in super::super) fn picture(count: usize) -> Picture {
        let kinds = Kind::ALL;
        let shape = |index: usize| Shape {
            name: format!("service-<{index}>-{}", "x".repeat(index * 7 % 19)),
            kind: kinds[if index % 9 == 8 { index % 5 } else { 0 }],
            is_entry: index < 3,
            is_storm: index % 17 == 16,
            is_in_round: index % 11 == 10,
            calls: (!index.is_multiple_of(3)).then(|| format!("≤ {index} calls")),
            facts: vec!["a fact & more".to_owned()],
        };
        let mut lines = Vec::new();
        for from in 0..count {
            for step in [3, 7, 12, 31] {
                let to = from + step + from * step % 5;
                if to < count && !(from + step).is_multiple_of(3) {
                    lines.push((from, to));
                }
            }
        }
        if count > 9 {
            lines.extend([(9, 0), (4, 4)]);
        }
        let line = |(index, (from, to)): (usize, (usize, usize))| Line {
            from,
            to,
            weight: Weight::ALL[if index % 4 == 3 { index % 5 } else { 2 }],
            tag: if index.is_multiple_of(3) {
                String::new()
            } else {
                "3× 20%".to_owned()
            },
            facts: vec![format!("{from} → {to}")],
        };
        Picture {
            name: "shop & \"more\"".to_owned(),
            boxes: (0..count).map(shape).collect(),
            lines: lines.into_iter().enumerate().map(line).collect(),
            left_out: 3,
            limit: 10,
            is_storm: true,
        }
    }

    /// Tags are closed in the order of their opening, and no text holds what XML would take for markup.
    #[track_caller]
    pub(in super::super) fn check_well_formed(text: &str) {
        let mut open: Vec<&str> = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('<') {
            let entities = before.split('&').skip(1);
            for entity in entities {
                let name = entity.split_once(';').map(|(name, _)| name);
                assert!(name.is_some_and(|name| name.len() < 7), "& in {before}");
            }
            let (tag, after) = after.split_once('>').unwrap();
            rest = after;
            if tag.starts_with(['?', '!']) {
                continue;
            }
            assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop(), Some(name));
            } else if !tag.ends_with('/') {
                open.push(tag.split([' ', '\n']).next().unwrap());
            }
        }
        assert!(open.is_empty(), "{open:?}");
    }

    #[test]
    fn the_picture_is_well_formed_and_the_same_each_time() {
        for count in [0, 1, 7, 50] {
            let text = svg(&picture(count));
            check_well_formed(&text);
            assert_eq!(text, svg(&picture(count)));
        }
    }

    #[test]
    fn no_texts_overlap_and_none_is_cut_off() {
        for count in [1, 7, 50, 120] {
            let picture = picture(count);
            let scene = Scene::of(&picture);
            let labels = scene.heads.iter().chain(scene.labels.iter().flatten());
            let labels = labels.chain(scene.tags.iter().flatten());
            let legend = scene.legend.iter().map(|entry| &entry.label);
            let all: Vec<&Label> = labels.chain(legend).collect();
            assert!(all.len() > 2 * count);
            for (index, one) in all.iter().enumerate() {
                let Rect {
                    x,
                    y,
                    width,
                    height,
                } = one.rect;
                assert!(
                    x >= 0.0 && y >= 0.0 && x + width <= scene.width && y + height <= scene.height,
                    "{one:?} of {} x {}",
                    scene.width,
                    scene.height
                );
                for other in &all[index + 1..] {
                    let apart = other.rect.x >= x + width
                        || other.rect.x + other.rect.width <= x
                        || other.rect.y >= y + height
                        || other.rect.y + other.rect.height <= y;
                    assert!(apart, "{one:?} and {other:?}");
                }
            }
        }
    }

    #[test]
    fn no_boxes_overlap() {
        let scene = Scene::of(&picture(50));
        for (index, one) in scene.boxes.iter().enumerate() {
            for other in &scene.boxes[index + 1..] {
                let apart = other.x >= one.x + one.width
                    || other.x + other.width <= one.x
                    || other.y >= one.y + one.height
                    || other.y + other.height <= one.y;
                assert!(apart, "{one:?} and {other:?}");
            }
        }
    }
}
