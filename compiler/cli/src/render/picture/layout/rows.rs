//! At which height everything stands: near what it is joined with, in the order of its column, without overlaps.

use super::order::Columns;
use super::real;

/// Sweeps over all columns.
const SWEEPS: usize = 12;

/// The centre of each item.
pub(super) fn centres(columns: &Columns, heights: &[f64], gap: f64) -> Vec<f64> {
    let mut centres = vec![0.0; columns.items.len()];
    for items in &columns.order {
        place(items, heights, gap, &vec![0.0; items.len()], &mut centres);
    }
    for sweep in 0..SWEEPS {
        let rightwards = sweep % 2 == 0;
        let mut order: Vec<&Vec<usize>> = columns.order.iter().collect();
        if !rightwards {
            order.reverse();
        }
        for items in order {
            let wanted: Vec<f64> = items
                .iter()
                .map(|item| {
                    // In the last sweeps both sides pull.
                    let near = &columns.beside[usize::from(!rightwards)][*item];
                    let far = &columns.beside[usize::from(rightwards)][*item];
                    let late = sweep + 4 >= SWEEPS;
                    let pulling = near
                        .iter()
                        .chain(far.iter().filter(|_| late || near.is_empty()));
                    let (mut sum, mut count) = (0.0, 0);
                    for other in pulling {
                        sum += centres[*other];
                        count += 1;
                    }
                    if count == 0 {
                        centres[*item]
                    } else {
                        sum / real(count)
                    }
                })
                .collect();
            place(items, heights, gap, &wanted, &mut centres);
        }
    }
    let tops = centres
        .iter()
        .zip(heights)
        .map(|(centre, height)| centre - height / 2.0);
    let top = tops.fold(f64::INFINITY, f64::min);
    if top.is_finite() {
        for centre in &mut centres {
            *centre -= top;
        }
    }
    centres
}

/// Puts a column as near as can be (least squares) to where its items want to be: with the room that the items before
/// need taken off, what is left has to rise, and neighbours that would fall stand together at their mean.
fn place(items: &[usize], heights: &[f64], gap: f64, wanted: &[f64], centres: &mut [f64]) {
    let mut offsets = Vec::with_capacity(items.len());
    let mut offset = 0.0;
    let mut before: Option<usize> = None;
    for item in items {
        if let Some(before) = before {
            offset += heights[before] / 2.0 + gap + heights[*item] / 2.0;
        }
        offsets.push(offset);
        before = Some(*item);
    }
    // Sum, count.
    let mut blocks: Vec<(f64, usize)> = Vec::new();
    for (wanted, offset) in wanted.iter().zip(&offsets) {
        let mut block = (wanted - offset, 1);
        while let Some((sum, count)) = blocks.last().copied() {
            if sum / real(count) <= block.0 / real(block.1) {
                break;
            }
            blocks.pop();
            block = (block.0 + sum, block.1 + count);
        }
        blocks.push(block);
    }
    let means = blocks
        .into_iter()
        .flat_map(|(sum, count)| std::iter::repeat_n(sum / real(count), count));
    for ((item, offset), mean) in items.iter().zip(offsets).zip(means) {
        centres[*item] = mean + offset;
    }
}
