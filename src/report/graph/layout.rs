//! Where boxes and edges of a graph are drawn: columns, the order within them, heights, ways.

/// Room between two boxes of a column.
const ROW_GAP: f64 = 14.0;
/// Room for the lane of an edge that passes a column.
const LANE: f64 = 10.0;
/// Room between columns, at least; it grows with the edges that have to turn in it.
const COLUMN_GAP: f64 = 56.0;
const WIDEST_GAP: f64 = 220.0;
/// How often columns are sorted by their neighbours, and heights are levelled with them.
const SWEEPS: usize = 12;

/// Where a box is: `y` is its middle.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Place {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

/// A drawing without its ink.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) places: Vec<Place>,
    /// The points that each edge passes, from what is read to its reader.
    pub(super) edges: Vec<Vec<(f64, f64)>>,
    pub(super) width: f64,
    pub(super) height: f64,
}

/// A box, or the lane of a long edge.
#[derive(Debug)]
struct Item {
    column: usize,
    /// Its height and half of the gaps around it.
    room: f64,
    /// Its neighbours in the column to the left and to the right.
    left: Vec<usize>,
    right: Vec<usize>,
    /// Its middle.
    y: f64,
}

impl Layout {
    /// `reads` of a node come before it.
    pub(super) fn new(reads: &[&[usize]], widths: &[f64], height: f64) -> Self {
        let columns = columns(reads);
        let mut items: Vec<Item> = columns
            .iter()
            .map(|column| Item { column: *column, room: height + ROW_GAP, left: Vec::new(), right: Vec::new(), y: 0.0 })
            .collect();
        let chains = chains(reads, &columns, &mut items);
        let count = columns.iter().max().map_or(0, |last| last + 1);
        let mut order: Vec<Vec<usize>> = vec![Vec::new(); count];
        (0..items.len()).for_each(|item| order[items[item].column].push(item));
        sort(&mut order, &items);
        level(&order, &mut items);
        let top = items.iter().map(|item| item.y - item.room / 2.0).fold(f64::INFINITY, f64::min);
        items.iter_mut().for_each(|item| item.y -= top);
        let bottom = items.iter().map(|item| item.y + item.room / 2.0).fold(0.0, f64::max);
        let (starts, ends, width) = widths_of(&order, &items, widths);
        let place = |node: usize| {
            let (start, end) = (starts[columns[node]], ends[columns[node]]);
            let x = start + (end - start - widths[node]) / 2.0;
            Place { x, y: items[node].y, width: widths[node], height }
        };
        let places: Vec<Place> = (0..reads.len()).map(place).collect();
        let way = |chain: &Vec<usize>| {
            let mut points = Vec::new();
            for (number, item) in chain.iter().enumerate() {
                let (start, end) = match places.get(*item) {
                    Some(place) => (place.x, place.x + place.width),
                    None => (starts[items[*item].column], ends[items[*item].column]),
                };
                let (column_start, column_end) = (starts[items[*item].column], ends[items[*item].column]);
                let y = items[*item].y;
                // To the border of the column first, so that what turns, turns between the columns.
                if number > 0 {
                    points.extend([(column_start, y), (start, y)]);
                }
                if number + 1 < chain.len() {
                    points.extend([(end, y), (column_end, y)]);
                }
            }
            points.dedup();
            points
        };
        Self { edges: chains.iter().map(way).collect(), places, width, height: bottom }
    }
}

/// The column of each node: after all that it reads. What reads nothing stands right before its first reader.
fn columns(reads: &[&[usize]]) -> Vec<usize> {
    let mut columns = vec![0; reads.len()];
    for (node, reads) in reads.iter().enumerate() {
        columns[node] = reads.iter().map(|read| columns[*read] + 1).max().unwrap_or(0);
    }
    for node in (0..reads.len()).rev().filter(|node| reads[*node].is_empty()) {
        let readers = (0..reads.len()).filter(|reader| reads[*reader].contains(&node));
        if let Some(first) = readers.map(|reader| columns[reader]).min() {
            columns[node] = first - 1;
        }
    }
    columns
}

/// Adds a lane for each column that an edge passes, and returns the items of each edge in order.
fn chains(reads: &[&[usize]], columns: &[usize], items: &mut Vec<Item>) -> Vec<Vec<usize>> {
    let mut chains = Vec::new();
    for (node, reads) in reads.iter().enumerate() {
        for read in *reads {
            let mut chain = vec![*read];
            for column in columns[*read] + 1..columns[node] {
                chain.push(items.len());
                items.push(Item { column, room: LANE, left: Vec::new(), right: Vec::new(), y: 0.0 });
            }
            chain.push(node);
            for pair in chain.windows(2) {
                items[pair[0]].right.push(pair[1]);
                items[pair[1]].left.push(pair[0]);
            }
            chains.push(chain);
        }
    }
    chains
}

/// Sorts each column by the mean place of its neighbours, from left to right and back; keeps the best order met.
fn sort(order: &mut [Vec<usize>], items: &[Item]) {
    let mut place = vec![0.0; items.len()];
    let number = |order: &[Vec<usize>], place: &mut [f64]| {
        for (at, item) in order.iter().flat_map(|column| column.iter().enumerate()) {
            place[*item] = at as f64;
        }
    };
    number(order, &mut place);
    let mut best = (crossings(order, items, &place), order.to_vec());
    for sweep in 0..SWEEPS {
        let to_right = sweep % 2 == 0;
        for step in 0..order.len() {
            let column = if to_right { step } else { order.len() - 1 - step };
            let mean = |item: &usize| {
                let near = if to_right { &items[*item].left } else { &items[*item].right };
                match near.len() {
                    0 => place[*item],
                    count => near.iter().map(|near| place[*near]).sum::<f64>() / count as f64,
                }
            };
            let mut keyed: Vec<(f64, usize)> = order[column].iter().map(|item| (mean(item), *item)).collect();
            // Stable: what is equal stays in order.
            keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
            order[column] = keyed.into_iter().map(|(_, item)| item).collect();
            order[column].iter().enumerate().for_each(|(at, item)| place[*item] = at as f64);
        }
        let found = crossings(order, items, &place);
        if found < best.0 {
            best = (found, order.to_vec());
        }
    }
    order.clone_from_slice(&best.1);
}

/// How many pairs of edges cross.
fn crossings(order: &[Vec<usize>], items: &[Item], place: &[f64]) -> usize {
    let mut count = 0;
    for column in order {
        let mut ends: Vec<f64> = Vec::new();
        for item in column {
            let mut own: Vec<f64> = items[*item].right.iter().map(|right| place[*right]).collect();
            own.sort_by(f64::total_cmp);
            for end in &own {
                // `ends` is sorted: all behind the place are crossed.
                count += ends.len() - ends.partition_point(|other| other <= end);
            }
            for end in own {
                ends.insert(ends.partition_point(|other| *other <= end), end);
            }
        }
    }
    count
}

/// Gives heights: each item as near as can be to the mean of its neighbours, in the column's order, none over another.
fn level(order: &[Vec<usize>], items: &mut [Item]) {
    for column in order {
        let mut y = 0.0;
        for item in column {
            items[*item].y = y + items[*item].room / 2.0;
            y += items[*item].room;
        }
    }
    for sweep in 0..=2 * SWEEPS {
        let to_right = sweep % 2 == 0;
        for step in 0..order.len() {
            let column = &order[if to_right { step } else { order.len() - 1 - step }];
            let wish = |item: &usize| {
                let item = &items[*item];
                // Near the end both sides count; the last sweep makes chains level.
                let near: Vec<usize> = match ((2 * SWEEPS - 2..2 * SWEEPS).contains(&sweep), to_right) {
                    (true, _) => item.left.iter().chain(&item.right).copied().collect(),
                    (false, true) => item.left.clone(),
                    (false, false) => item.right.clone(),
                };
                match near.len() {
                    0 => item.y,
                    count => near.iter().map(|near| items[*near].y).sum::<f64>() / count as f64,
                }
            };
            let wishes: Vec<f64> = column.iter().map(wish).collect();
            let rooms: Vec<f64> = column.iter().map(|item| items[*item].room).collect();
            for (item, y) in column.iter().zip(spread(&wishes, &rooms)) {
                items[*item].y = y;
            }
        }
    }
}

/// The heights nearest to the wishes (least squares) at which nothing overlaps: neighbours that would, stand side by side
/// around the mean of their wishes.
fn spread(wishes: &[f64], rooms: &[f64]) -> Vec<f64> {
    // Where each would stand if the first stood at 0.
    let mut offsets = Vec::new();
    let mut y = 0.0;
    for (number, room) in rooms.iter().enumerate() {
        y += if number == 0 { 0.0 } else { f64::midpoint(rooms[number - 1], *room) };
        offsets.push(y);
    }
    // Without the offsets the heights must only not fall.
    let mut blocks: Vec<(f64, usize)> = Vec::new();
    for (wish, offset) in wishes.iter().zip(&offsets) {
        let mut block = (wish - offset, 1);
        while let Some(last) = blocks.last().copied().filter(|last| last.0 > block.0) {
            let count = last.1 + block.1;
            block = ((last.0 * last.1 as f64 + block.0 * block.1 as f64) / count as f64, count);
            blocks.pop();
        }
        blocks.push(block);
    }
    let bases = blocks.into_iter().flat_map(|(base, count)| std::iter::repeat_n(base, count));
    bases.zip(offsets).map(|(base, offset)| base + offset).collect()
}

/// Where columns begin and end, and how wide all is.
fn widths_of(order: &[Vec<usize>], items: &[Item], widths: &[f64]) -> (Vec<f64>, Vec<f64>, f64) {
    let (mut starts, mut ends) = (Vec::new(), Vec::new());
    let mut x = 0.0;
    for column in order {
        let widest = column.iter().filter_map(|item| widths.get(*item)).copied().fold(0.0, f64::max);
        starts.push(x);
        ends.push(x + widest);
        let rise = column
            .iter()
            .flat_map(|item| items[*item].right.iter().map(|right| (items[*right].y - items[*item].y).abs()));
        // Steep curves are hard to follow.
        let gap = COLUMN_GAP.max(rise.fold(0.0, f64::max) / 4.0).min(WIDEST_GAP);
        x += widest + gap;
    }
    let width = ends.last().copied().unwrap_or(0.0);
    (starts, ends, width)
}
