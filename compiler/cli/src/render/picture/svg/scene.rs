//! Everything of the picture with its place, texts included: nothing is measured when it is drawn.

use super::super::layout::{Link, Rect, Size, layout, real};
use super::super::{Kind, Picture, Shape, Weight};

/// Around everything.
const MARGIN: f64 = 24.0;
/// Height of the head.
const HEAD: f64 = 52.0;
/// Width of a character for each unit of its size, in practically every font of fixed width.
const CHARACTER: f64 = 0.61;
/// Beside the texts in a box.
const PADDING: f64 = 14.0;
const BOX_HEIGHT: f64 = 42.0;
const BOX_WIDTH_MIN: f64 = 84.0;
/// Between the boxes that have no lines.
const GAP: f64 = 16.0;
/// A longer name is cut; pointing at the box shows all of it.
const NAME_MAX: usize = 32;
/// The least width of a picture: a legend that breaks after each word can't be read.
const WIDTH_MIN: f64 = 720.0;
const LEGEND_ROW: f64 = 26.0;

/// A text with the room that it takes.
#[derive(Clone, Debug)]
pub(super) struct Label {
    pub(super) class: &'static str,
    pub(super) rect: Rect,
    pub(super) text: String,
    size: f64,
}

impl Label {
    fn new(class: &'static str, size: f64, (x, y): (f64, f64), text: String) -> Self {
        let rect = Rect {
            x,
            y,
            width: width(&text, size),
            height: size * 1.2,
        };
        Self {
            class,
            rect,
            text,
            size,
        }
    }

    /// Where the letters stand.
    pub(super) fn baseline(&self) -> f64 {
        self.rect.y + self.size * 0.93
    }
}

/// What a line of the legend shows.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sample {
    Box(Kind),
    Entry,
    Line(Weight),
    Words,
}

/// A line of the legend.
#[derive(Clone, Debug)]
pub(super) struct Legend {
    pub(super) sample: Sample,
    pub(super) place: Rect,
    pub(super) label: Label,
}

/// The whole picture.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) heads: Vec<Label>,
    pub(super) boxes: Vec<Rect>,
    pub(super) labels: Vec<Vec<Label>>,
    pub(super) lines: Vec<Vec<(f64, f64)>>,
    pub(super) tags: Vec<Option<Label>>,
    pub(super) legend: Vec<Legend>,
}

fn width(text: &str, size: f64) -> f64 {
    real(text.chars().count()) * size * CHARACTER
}

fn name(shape: &Shape) -> String {
    match shape.name.char_indices().nth(NAME_MAX) {
        None => shape.name.clone(),
        Some((end, _)) => format!("{}…", shape.name.get(..end).unwrap_or_default()),
    }
}

fn sub(shape: &Shape) -> String {
    let kind = (shape.kind != Kind::Service).then(|| shape.kind.word());
    let words: Vec<&str> = kind.into_iter().chain(shape.calls.as_deref()).collect();
    words.join(", ")
}

fn box_width(shape: &Shape) -> f64 {
    let text = width(&name(shape), 13.0).max(width(&sub(shape), 10.0));
    (text + 2.0 * PADDING).max(BOX_WIDTH_MIN)
}

impl Scene {
    pub(super) fn of(picture: &Picture) -> Self {
        let mut scene = Self {
            width: WIDTH_MIN,
            height: MARGIN + HEAD,
            heads: Vec::new(),
            boxes: vec![Rect::default(); picture.boxes.len()],
            labels: Vec::new(),
            lines: Vec::new(),
            tags: Vec::new(),
            legend: Vec::new(),
        };
        let head = Label::new("head", 16.0, (MARGIN, MARGIN), picture.name.clone());
        let below = (MARGIN, MARGIN + 24.0);
        let summary = Label::new("legend", 10.0, below, picture.summary());
        scene.heads.extend([head, summary]);
        let mut is_joined = vec![false; picture.boxes.len()];
        for line in &picture.lines {
            is_joined[line.from] = true;
            is_joined[line.to] = true;
        }
        scene.place_joined(picture, &is_joined);
        scene.place_others(picture, &is_joined);
        let placed = picture.boxes.iter().zip(&scene.boxes);
        scene.labels = placed.map(|(shape, rect)| labels(shape, *rect)).collect();
        scene.place_legend(picture);
        for head in &scene.heads {
            scene.width = scene.width.max(head.rect.x + head.rect.width + MARGIN);
        }
        scene.height += MARGIN;
        scene
    }

    fn place_joined(&mut self, picture: &Picture, is_joined: &[bool]) {
        let joined: Vec<usize> = (0..is_joined.len())
            .filter(|index| is_joined[*index])
            .collect();
        let mut position = vec![0; is_joined.len()];
        for (place, index) in joined.iter().enumerate() {
            position[*index] = place;
        }
        let size = |index: &usize| Size {
            width: box_width(&picture.boxes[*index]),
            height: BOX_HEIGHT,
        };
        let sizes: Vec<Size> = joined.iter().map(size).collect();
        let links = picture.lines.iter().map(|line| Link {
            from: position[line.from],
            to: position[line.to],
            tag: tag_width(&shown_tag(line.from == line.to, &line.tag)),
        });
        let links: Vec<Link> = links.collect();
        let found = layout(&sizes, &links);
        let (left, top) = (MARGIN, self.height);
        for (index, rect) in joined.iter().zip(&found.boxes) {
            self.boxes[*index] = Rect {
                x: rect.x + left,
                y: rect.y + top,
                ..*rect
            };
        }
        for (line, placed) in picture.lines.iter().zip(&found.lines) {
            let points = placed.points.iter();
            self.lines.push(
                points
                    .map(|point| (point.0 + left, point.1 + top))
                    .collect(),
            );
            self.tags.push(placed.tag.map(|rect| {
                let text = shown_tag(line.from == line.to, &line.tag);
                let at = (
                    rect.x + left + 5.0,
                    rect.y + top + (rect.height - 12.0) / 2.0,
                );
                Label::new("tag", 10.0, at, text)
            }));
        }
        self.width = self.width.max(found.width + 2.0 * MARGIN);
        if !joined.is_empty() {
            self.height += found.height + 28.0;
        }
    }

    /// Those that nobody calls and that call nobody, row by row.
    fn place_others(&mut self, picture: &Picture, is_joined: &[bool]) {
        let alone: Vec<usize> = (0..is_joined.len())
            .filter(|index| !is_joined[*index])
            .collect();
        if alone.is_empty() {
            return;
        }
        let words = "These call nobody, and nobody calls them:".to_owned();
        self.heads
            .push(Label::new("legend", 10.0, (MARGIN, self.height), words));
        let mut at = (MARGIN, self.height + 22.0);
        for index in alone {
            let width = box_width(&picture.boxes[index]);
            if at.0 > MARGIN && at.0 + width + MARGIN > self.width {
                at = (MARGIN, at.1 + BOX_HEIGHT + GAP);
            }
            self.boxes[index] = Rect {
                x: at.0,
                y: at.1,
                width,
                height: BOX_HEIGHT,
            };
            at.0 += width + GAP;
        }
        self.height = at.1 + BOX_HEIGHT + 28.0;
    }

    fn place_legend(&mut self, picture: &Picture) {
        let mut entries: Vec<(Sample, String)> = Vec::new();
        if picture.boxes.iter().any(|shape| shape.is_entry) {
            entries.push((Sample::Entry, "requests come in".to_owned()));
        }
        for kind in Kind::ALL {
            if picture.boxes.iter().any(|shape| shape.kind == kind) {
                entries.push((Sample::Box(kind), kind.word().to_owned()));
            }
        }
        for weight in Weight::ALL {
            let words = match weight {
                Weight::Permitted => "only permitted".to_owned(),
                Weight::Side => "asked or copied by a proxy".to_owned(),
                Weight::Plain => "calls".to_owned(),
                Weight::Round => "call each other in a round".to_owned(),
                Weight::Storm => picture.worst_words(),
            };
            if picture.lines.iter().any(|line| line.weight == weight) {
                entries.push((Sample::Line(weight), words));
            }
        }
        if picture.lines.iter().any(|line| !line.tag.is_empty()) {
            let words = "3× 20%: three attempts, with a retry budget of a fifth; ∞: no budget";
            entries.push((Sample::Words, words.to_owned()));
        }
        if picture.boxes.iter().any(|shape| shape.calls.is_some()) {
            let words = "≤ 9 calls: of one request, when the service fails";
            entries.push((Sample::Words, words.to_owned()));
        }
        if picture.left_out > 0 {
            let words = format!(
                "{} calls that are only permitted are left out",
                picture.left_out
            );
            entries.push((Sample::Words, words));
        }
        let mut at = (MARGIN, self.height);
        for (sample, words) in entries {
            let drawn = if matches!(sample, Sample::Words) {
                0.0
            } else {
                34.0
            };
            let taken = drawn + 8.0 + width(&words, 10.0) + 22.0;
            if at.0 > MARGIN && at.0 + taken > self.width {
                at = (MARGIN, at.1 + LEGEND_ROW);
            }
            let place = Rect {
                x: at.0,
                y: at.1,
                width: drawn,
                height: 16.0,
            };
            let beside = if drawn > 0.0 { drawn + 8.0 } else { 0.0 };
            let label = Label::new("legend", 10.0, (at.0 + beside, at.1 + 2.0), words);
            self.legend.push(Legend {
                sample,
                place,
                label,
            });
            at.0 += taken;
        }
        self.height = at.1 + 16.0;
    }
}

/// A service that calls itself has no line, and says so beside it.
fn shown_tag(is_own: bool, tag: &str) -> String {
    match (is_own, tag) {
        (false, tag) => tag.to_owned(),
        (true, "") => "↻ itself".to_owned(),
        (true, tag) => format!("↻ itself {tag}"),
    }
}

fn tag_width(tag: &str) -> f64 {
    if tag.is_empty() {
        0.0
    } else {
        width(tag, 10.0) + 10.0
    }
}

/// Name and what is below it, in the middle of the box.
fn labels(shape: &Shape, rect: Rect) -> Vec<Label> {
    let (name, sub) = (name(shape), sub(shape));
    let middle = rect.y + rect.height / 2.0;
    let x = |text: &str, size: f64| rect.x + (rect.width - width(text, size)) / 2.0;
    if sub.is_empty() {
        return vec![Label::new(
            "name",
            13.0,
            (x(&name, 13.0), middle - 8.0),
            name,
        )];
    }
    vec![
        Label::new("name", 13.0, (x(&name, 13.0), middle - 15.5), name),
        Label::new("sub", 10.0, (x(&sub, 10.0), middle + 2.0), sub),
    ]
}
