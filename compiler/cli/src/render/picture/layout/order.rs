//! In which order the boxes of a column stand, so that few lines cross.

use super::layers::Layers;
use super::{Link, real};

/// Sweeps over all columns; the order that crosses least of all is kept.
const SWEEPS: usize = 24;

/// A box, or a line that passes through a column.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item {
    /// None: a line passes.
    pub(super) node: Option<usize>,
    /// Its column.
    pub(super) layer: usize,
}

/// Columns with everything that needs room in them.
#[derive(Debug)]
pub(super) struct Columns {
    pub(super) items: Vec<Item>,
    /// For each column its items, from top to bottom.
    pub(super) order: Vec<Vec<usize>>,
    /// For each line the items that it leads over, from left to right; empty: it leads to its own box.
    pub(super) chains: Vec<Vec<usize>>,
    /// For each item those to the left and those to the right that lines lead to.
    pub(super) beside: [Vec<Vec<usize>>; 2],
}

impl Columns {
    pub(super) fn of(layers: &Layers, links: &[Link]) -> Self {
        let items = layers.layer.iter().enumerate();
        let mut this = Self {
            items: items
                .map(|(node, layer)| Item {
                    node: Some(node),
                    layer: *layer,
                })
                .collect(),
            order: vec![Vec::new(); layers.count],
            chains: Vec::with_capacity(links.len()),
            beside: [Vec::new(), Vec::new()],
        };
        for (index, link) in links.iter().enumerate() {
            let mut chain = Vec::new();
            if link.from != link.to {
                let (first, last) = layers.ends(index, link);
                chain.push(first);
                for layer in layers.layer[first] + 1..layers.layer[last] {
                    chain.push(this.items.len());
                    this.items.push(Item { node: None, layer });
                }
                chain.push(last);
            }
            this.chains.push(chain);
        }
        this.beside = [
            vec![Vec::new(); this.items.len()],
            vec![Vec::new(); this.items.len()],
        ];
        for chain in &this.chains {
            for (left, right) in chain.iter().zip(chain.iter().skip(1)) {
                this.beside[1][*left].push(*right);
                this.beside[0][*right].push(*left);
            }
        }
        this.fill();
        this
    }

    /// How many lines lead from a column to the next.
    pub(super) fn between(&self, column: usize) -> usize {
        let items = self.order.get(column).into_iter().flatten();
        items.map(|item| self.beside[1][*item].len()).sum()
    }

    /// Items stand in the order in which a walk along the lines comes to them: what belongs together stays so.
    fn fill(&mut self) {
        let mut seen = vec![false; self.items.len()];
        let starts = (0..self.items.len()).filter(|item| self.beside[0][*item].is_empty());
        let starts: Vec<usize> = starts.chain(0..self.items.len()).collect();
        for start in starts {
            let mut waiting = vec![start];
            while let Some(item) = waiting.pop() {
                if !std::mem::replace(&mut seen[item], true) {
                    self.order[self.items[item].layer].push(item);
                    waiting.extend(self.beside[1][item].iter().rev());
                }
            }
        }
    }

    pub(super) fn reduce_crossings(&mut self) {
        let mut best = (self.crossings(), self.order.clone());
        for sweep in 0..SWEEPS {
            let rightwards = sweep % 2 == 0;
            let side = usize::from(!rightwards);
            let count = self.order.len();
            for step in 1..count {
                let column = if rightwards { step } else { count - 1 - step };
                self.sort(column, side);
            }
            let crossings = self.crossings();
            if crossings < best.0 {
                best = (crossings, self.order.clone());
            }
        }
        self.order = best.1;
    }

    fn places(&self) -> Vec<usize> {
        let mut places = vec![0; self.items.len()];
        for column in &self.order {
            for (place, item) in column.iter().enumerate() {
                places[*item] = place;
            }
        }
        places
    }

    /// Sorts a column by the middle of what is beside each item; what has nothing there stays about where it is.
    fn sort(&mut self, column: usize, side: usize) {
        let places = self.places();
        let scale = {
            let other = if side == 0 {
                column.checked_sub(1)
            } else {
                Some(column + 1)
            };
            let of = |column: usize| self.order.get(column).map_or(1, Vec::len).max(1);
            real(other.map_or(1, of)) / real(of(column))
        };
        let mut keyed: Vec<(f64, usize)> = self.order[column]
            .iter()
            .map(|item| {
                let mut beside: Vec<usize> = self.beside[side][*item]
                    .iter()
                    .map(|other| places[*other])
                    .collect();
                beside.sort_unstable();
                let middle = if beside.is_empty() {
                    real(places[*item]) * scale
                } else {
                    real(beside.iter().sum()) / real(beside.len())
                };
                (middle, *item)
            })
            .collect();
        keyed.sort_by(|a, b| a.0.total_cmp(&b.0).then(places[a.1].cmp(&places[b.1])));
        self.order[column] = keyed.into_iter().map(|(_, item)| item).collect();
    }

    /// How often lines between neighbouring columns cross.
    fn crossings(&self) -> usize {
        let places = self.places();
        let mut crossings = 0;
        for (column, items) in self.order.iter().enumerate() {
            // Lines in the order of their left ends; each crosses those before it that end below it.
            let next = self.order.get(column + 1).map_or(0, Vec::len);
            let mut ended = Counts::new(next);
            let mut count = 0;
            for item in items {
                let mut ends: Vec<usize> = self.beside[1][*item]
                    .iter()
                    .map(|other| places[*other])
                    .collect();
                ends.sort_unstable();
                for end in &ends {
                    crossings += count - ended.up_to(*end);
                }
                for end in ends {
                    ended.add(end);
                    count += 1;
                }
            }
        }
        crossings
    }
}

/// How many numbers up to a bound were seen (a Fenwick tree).
struct Counts(Vec<usize>);

impl Counts {
    fn new(length: usize) -> Self {
        Self(vec![0; length + 1])
    }

    fn add(&mut self, number: usize) {
        let mut index = number + 1;
        while let Some(count) = self.0.get_mut(index) {
            *count += 1;
            index += index & index.wrapping_neg();
        }
    }

    fn up_to(&self, number: usize) -> usize {
        let mut index = number + 1;
        let mut sum = 0;
        while index > 0 {
            sum += self.0.get(index).copied().unwrap_or(0);
            index &= index - 1;
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_need_not_cross_do_not() {
        let link = |from, to| Link { from, to, tag: 0.0 };
        let links = [link(0, 5), link(1, 4), link(2, 3), link(0, 4), link(1, 3)];
        let layers = Layers::of(6, &links);
        let mut columns = Columns::of(&layers, &links);
        columns.reduce_crossings();
        assert_eq!(columns.crossings(), 0, "{:?}", columns.order);
    }
}
