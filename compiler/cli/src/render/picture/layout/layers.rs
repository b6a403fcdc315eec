//! Which column each box stands in: right of whoever calls it.

use super::Link;

/// The column of each box, and the lines that lead back.
#[derive(Debug)]
pub(super) struct Layers {
    /// As the boxes.
    pub(super) layer: Vec<usize>,
    /// As the links: those that close a round, and so lead from right to left.
    pub(super) reversed: Vec<bool>,
    /// How many columns there are.
    pub(super) count: usize,
}

impl Layers {
    pub(super) fn of(boxes: usize, links: &[Link]) -> Self {
        let reversed = reversed(boxes, links);
        let mut this = Self {
            layer: vec![0; boxes],
            reversed,
            count: 0,
        };
        let order = this.order(boxes, links);
        let (mut leaving, mut entering) = (vec![Vec::new(); boxes], vec![0_usize; boxes]);
        for (index, link) in links.iter().enumerate() {
            if link.from != link.to {
                let (first, last) = this.ends(index, link);
                leaving[first].push(last);
                entering[last] += 1;
            }
        }
        for node in &order {
            for next in &leaving[*node] {
                this.layer[*next] = this.layer[*next].max(this.layer[*node] + 1);
            }
        }
        // Whoever nobody calls stands next to whom it calls, not far to the left of it.
        for node in order.iter().rev() {
            let nearest = leaving[*node].iter().map(|next| this.layer[*next]).min();
            if let Some(nearest) = nearest.filter(|_| entering[*node] == 0) {
                this.layer[*node] = nearest.saturating_sub(1);
            }
        }
        this.count = this.layer.iter().max().map_or(0, |last| last + 1);
        this
    }

    /// The boxes at the left and right end of a line.
    pub(super) fn ends(&self, index: usize, link: &Link) -> (usize, usize) {
        if self.reversed[index] {
            (link.to, link.from)
        } else {
            (link.from, link.to)
        }
    }

    /// Callers before callees.
    fn order(&self, boxes: usize, links: &[Link]) -> Vec<usize> {
        let mut waiting_for = vec![0_usize; boxes];
        let mut leaving = vec![Vec::new(); boxes];
        for (index, link) in links.iter().enumerate() {
            if link.from != link.to {
                let (first, last) = self.ends(index, link);
                waiting_for[last] += 1;
                leaving[first].push(last);
            }
        }
        let mut order: Vec<usize> = (0..boxes).filter(|node| waiting_for[*node] == 0).collect();
        let mut next = 0;
        while let Some(node) = order.get(next).copied() {
            next += 1;
            for callee in &leaving[node] {
                waiting_for[*callee] -= 1;
                if waiting_for[*callee] == 0 {
                    order.push(*callee);
                }
            }
        }
        order
    }
}

/// The lines that lead back to a box from which one came, when walking from whoever nobody calls.
fn reversed(boxes: usize, links: &[Link]) -> Vec<bool> {
    let mut leaving = vec![Vec::new(); boxes];
    let mut is_called = vec![false; boxes];
    for (index, link) in links.iter().enumerate() {
        if link.from != link.to {
            leaving[link.from].push(index);
            is_called[link.to] = true;
        }
    }
    let mut reversed = vec![false; links.len()];
    let (mut seen, mut is_open) = (vec![false; boxes], vec![false; boxes]);
    let starts = (0..boxes).filter(|node| !is_called[*node]);
    for start in starts.chain(0..boxes) {
        if seen[start] {
            continue;
        }
        seen[start] = true;
        is_open[start] = true;
        let mut path = vec![(start, 0)];
        while let Some((node, next)) = path.last_mut() {
            let Some(index) = leaving[*node].get(*next).copied() else {
                is_open[*node] = false;
                path.pop();
                continue;
            };
            *next += 1;
            let to = links[index].to;
            if is_open[to] {
                reversed[index] = true;
            } else if !seen[to] {
                seen[to] = true;
                is_open[to] = true;
                path.push((to, 0));
            }
        }
    }
    reversed
}
