//! Where the boxes and lines of a call graph go: layers from left to right (after Sugiyama, Tagawa and Toda), few
//! crossings, and lines that bend around boxes. Numbers only; what a box or line means, and how text is drawn, is not
//! known here. The same graph always gets the same places.

mod layers;
mod order;
mod rows;

use layers::Layers;
use order::Columns;

/// Between boxes of a column.
const ROW_GAP: f64 = 18.0;
/// Between what passes through a column and what is beside it.
const PASSING: f64 = 7.0;
/// Between columns, at least: room for lines to bend.
const COLUMN_GAP: f64 = 70.0;
/// So much more for each line that bends there …
const COLUMN_GAP_PER_LINE: f64 = 1.4;
/// … up to this.
const COLUMN_GAP_MAX: f64 = 190.0;
/// Between lines that end at one side of a box, and those with a tag.
const PORT: f64 = 9.0;
const TAG_PORT: f64 = 15.0;
/// Above and below the ports of a box.
const PORT_MARGIN: f64 = 6.0;

/// A box to place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub(super) width: f64,
    pub(super) height: f64,
}

/// A line to draw.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub(super) from: usize,
    pub(super) to: usize,
    /// Width of the text that stands where the line begins; 0: none.
    pub(super) tag: f64,
}

/// A rectangle.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rect {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

/// A line with its places.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Line {
    /// Where the text goes; none: the line has none.
    pub(super) tag: Option<Rect>,
    /// From its tail to its head; pairs of points are joined by a bend, then by a straight piece, in turn. Empty: the
    /// box calls itself, and only the tag is drawn.
    pub(super) points: Vec<(f64, f64)>,
}

/// Where everything goes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Layout {
    pub(super) width: f64,
    pub(super) height: f64,
    /// As the sizes.
    pub(super) boxes: Vec<Rect>,
    /// As the links.
    pub(super) lines: Vec<Line>,
}

/// A count as a length.
pub(super) fn real(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// Places boxes and lines.
pub(super) fn layout(sizes: &[Size], links: &[Link]) -> Layout {
    let layers = Layers::of(sizes.len(), links);
    let mut columns = Columns::of(&layers, links);
    columns.reduce_crossings();
    let heights = heights(sizes, links, &layers);
    let item_heights: Vec<f64> = columns
        .items
        .iter()
        .map(|item| item.node.map_or(PASSING, |node| heights[node]))
        .collect();
    let centres = rows::centres(&columns, &item_heights, ROW_GAP);
    Placed {
        sizes,
        links,
        layers: &layers,
        columns: &columns,
        heights: &heights,
        centres: &centres,
    }
    .layout()
}

/// The lines at the left and at the right side of each box.
fn sides(boxes: usize, links: &[Link], layers: &Layers) -> [Vec<Vec<usize>>; 2] {
    let mut sides = [vec![Vec::new(); boxes], vec![Vec::new(); boxes]];
    for (index, link) in links.iter().enumerate() {
        if link.from == link.to {
            sides[1][link.from].push(index);
            continue;
        }
        let (first, last) = layers.ends(index, link);
        sides[1][first].push(index);
        sides[0][last].push(index);
    }
    sides
}

/// Boxes are at least as high as their lines need.
fn heights(sizes: &[Size], links: &[Link], layers: &Layers) -> Vec<f64> {
    let sides = sides(sizes.len(), links, layers);
    let needed = |node: usize| {
        let side = |lines: &Vec<usize>| {
            let ports = lines.iter().map(|line| port(node, &links[*line]));
            2.0 * PORT_MARGIN + ports.sum::<f64>()
        };
        side(&sides[0][node]).max(side(&sides[1][node]))
    };
    let sizes = sizes.iter().enumerate();
    sizes
        .map(|(node, size)| size.height.max(needed(node)))
        .collect()
}

/// The height of a line where it touches a box: its text stands where it begins.
fn port(node: usize, link: &Link) -> f64 {
    if link.tag > 0.0 && link.from == node {
        TAG_PORT
    } else {
        PORT
    }
}

struct Placed<'a> {
    sizes: &'a [Size],
    links: &'a [Link],
    layers: &'a Layers,
    columns: &'a Columns,
    heights: &'a [f64],
    /// Of each item.
    centres: &'a [f64],
}

/// The horizontal extent of a column of boxes, and of the texts beside them.
#[derive(Clone, Copy, Default)]
struct Column {
    x: f64,
    width: f64,
    /// Where lines at the left end and those at the right begin.
    left: f64,
    right: f64,
}

impl Placed<'_> {
    fn layout(&self) -> Layout {
        let sides = sides(self.sizes.len(), self.links, self.layers);
        let extents = self.extents();
        let mut layout = Layout {
            boxes: vec![Rect::default(); self.sizes.len()],
            lines: vec![Line::default(); self.links.len()],
            ..Layout::default()
        };
        for (column, items) in self.columns.order.iter().enumerate() {
            for item in items {
                let Some(node) = self.columns.items[*item].node else {
                    continue;
                };
                let height = self.heights[node];
                layout.boxes[node] = Rect {
                    x: extents[column].x,
                    y: self.centres[*item] - height / 2.0,
                    width: extents[column].width,
                    height,
                };
            }
        }
        // Where lines touch boxes: at the left side first, then at the right one.
        let mut touches = vec![[0.0; 2]; self.links.len()];
        for (side, lines) in sides.iter().enumerate() {
            for (node, lines) in lines.iter().enumerate() {
                self.touch(node, side, lines, &layout.boxes[node], &mut touches);
            }
        }
        for (index, link) in self.links.iter().enumerate() {
            layout.lines[index] = self.line(index, link, &extents, touches[index]);
        }
        let bottom = |rect: &Rect| rect.y + rect.height;
        layout.height = layout.boxes.iter().map(bottom).fold(0.0, f64::max);
        let passing = self.centres.iter().map(|centre| centre + PASSING);
        layout.height = passing.fold(layout.height, f64::max);
        layout.width = extents
            .iter()
            .map(|extent| extent.right)
            .fold(0.0, f64::max);
        layout
    }

    fn extents(&self) -> Vec<Column> {
        let count = self.columns.order.len();
        let mut widths = vec![0.0_f64; count];
        let mut tags = vec![[0.0_f64; 2]; count];
        for (node, size) in self.sizes.iter().enumerate() {
            let layer = self.layers.layer[node];
            widths[layer] = widths[layer].max(size.width);
        }
        for (index, link) in self.links.iter().enumerate() {
            let side = usize::from(!self.layers.reversed[index]);
            let layer = self.layers.layer[link.from];
            tags[layer][side] = tags[layer][side].max(link.tag);
        }
        let mut extents = Vec::with_capacity(count);
        let mut x = 0.0;
        for column in 0..count {
            let left = x;
            x += tags[column][0];
            let extent = Column {
                x,
                width: widths[column],
                left,
                right: x + widths[column] + tags[column][1],
            };
            let lines = real(self.columns.between(column));
            let gap = (COLUMN_GAP + lines * COLUMN_GAP_PER_LINE).min(COLUMN_GAP_MAX);
            x = extent.right + gap;
            extents.push(extent);
        }
        extents
    }

    /// Lines touch a box in the order of where they come from, so that they don't cross before it.
    fn touch(
        &self,
        node: usize,
        side: usize,
        lines: &[usize],
        rect: &Rect,
        touches: &mut [[f64; 2]],
    ) {
        let mut lines: Vec<(f64, usize)> = lines
            .iter()
            .map(|line| (self.neighbour(*line, side), *line))
            .collect();
        lines.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let ports = lines.iter().map(|(_, line)| port(node, &self.links[*line]));
        let mut y = rect.y + (rect.height - ports.sum::<f64>()) / 2.0;
        for (_, line) in lines {
            let port = port(node, &self.links[line]);
            touches[line][1 - side] = y + port / 2.0;
            y += port;
        }
    }

    /// The centre of what a line meets first, seen from its last box (side 0) or its first (side 1).
    fn neighbour(&self, line: usize, side: usize) -> f64 {
        let items = &self.columns.chains[line];
        let item = if side == 0 {
            items
                .len()
                .checked_sub(2)
                .and_then(|index| items.get(index))
        } else {
            items.get(1)
        };
        item.map_or(f64::MAX, |item| self.centres[*item])
    }

    /// `touches`: where the line leaves its first box and where it meets its last one.
    fn line(&self, index: usize, link: &Link, extents: &[Column], touches: [f64; 2]) -> Line {
        let reversed = self.layers.reversed[index];
        let own = extents[self.layers.layer[link.from]];
        if link.from == link.to {
            let y = touches[0];
            return Line {
                tag: tag(link, own.x + own.width, y),
                points: Vec::new(),
            };
        }
        let (first, last) = self.layers.ends(index, link);
        let first = extents[self.layers.layer[first]];
        let last = extents[self.layers.layer[last]];
        // Texts stand at the tail, which in a round may be at the right end.
        let begin = if reversed {
            first.x + first.width
        } else {
            first.x + first.width + link.tag
        };
        let end = if reversed { last.x - link.tag } else { last.x };
        let mut points = vec![(begin, touches[0]), (first.right, touches[0])];
        let chain = &self.columns.chains[index];
        for item in chain
            .get(1..chain.len().saturating_sub(1))
            .unwrap_or_default()
        {
            let column = extents[self.columns.items[*item].layer];
            let y = self.centres[*item];
            points.push((column.left, y));
            points.push((column.right, y));
        }
        points.push((last.left, touches[1]));
        points.push((end, touches[1]));
        let tag = if reversed {
            points.reverse();
            tag(link, last.x - link.tag, touches[1])
        } else {
            tag(link, own.x + own.width, touches[0])
        };
        Line { tag, points }
    }
}

fn tag(link: &Link, x: f64, y: f64) -> Option<Rect> {
    (link.tag > 0.0).then_some(Rect {
        x,
        y: y - TAG_PORT / 2.0,
        width: link.tag,
        height: TAG_PORT,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size {
        width: 120.0,
        height: 40.0,
    };

    fn link(from: usize, to: usize) -> Link {
        Link {
            from,
            to,
            tag: 30.0,
        }
    }

    #[test]
    fn calls_lead_from_left_to_right() {
        let found = layout(
            &[SIZE; 4],
            &[link(0, 1), link(1, 2), link(0, 2), link(2, 3)],
        );
        let x: Vec<f64> = found.boxes.iter().map(|rect| rect.x).collect();
        assert!(x[0] < x[1] && x[1] < x[2] && x[2] < x[3], "{x:?}");
        for (line, link) in found.lines.iter().zip([(0, 1), (1, 2), (0, 2), (2, 3)]) {
            let (first, last) = (line.points[0], line.points[line.points.len() - 1]);
            let (from, to) = (found.boxes[link.0], found.boxes[link.1]);
            assert!((first.0 - (from.x + from.width + 30.0)).abs() < 1e-9);
            assert!((last.0 - to.x).abs() < 1e-9 && last.1 > to.y && last.1 < to.y + to.height);
        }
    }

    #[test]
    fn rounds_and_calls_to_itself_have_places() {
        let found = layout(&[SIZE; 2], &[link(0, 1), link(1, 0), link(0, 0)]);
        assert!(found.lines[2].points.is_empty() && found.lines[2].tag.is_some());
        let back = &found.lines[1].points;
        assert!(back[0].0 > back[back.len() - 1].0, "{back:?}");
    }

    #[test]
    fn an_empty_graph_has_an_empty_place() {
        assert_eq!(layout(&[], &[]), Layout::default());
    }
}
