use super::*;
use std::collections::BTreeSet;

fn node(name: &str, reads: &[usize]) -> Node {
    Node { word: "mix".into(), name: name.into(), count: 1, look: Look::Pill, reads: reads.to_vec() }
}

/// Some graph of `count` boxes, the same each time; each reads up to three of those before it.
fn tangle(count: usize) -> Vec<Node> {
    let mut state = 7u64;
    let mut next = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below.max(1)
    };
    let mut nodes = Vec::new();
    for number in 0..count {
        let reads: BTreeSet<usize> = (0..next(4)).filter(|_| number > 0).map(|_| next(number)).collect();
        nodes.push(node(&format!("n{number}"), &reads.into_iter().collect::<Vec<_>>()));
    }
    nodes
}

fn layout(nodes: &[Node]) -> Layout {
    let widths: Vec<f64> = nodes.iter().map(width).collect();
    let reads: Vec<&[usize]> = nodes.iter().map(|node| node.reads.as_slice()).collect();
    Layout::new(&reads, &widths, BOX_HEIGHT)
}

#[test]
fn no_box_lies_over_another_and_no_edge_runs_through_one() {
    for count in [1, 2, 10, 60] {
        let nodes = tangle(count);
        let layout = layout(&nodes);
        let inside = |place: &Place, x: f64, y: f64| {
            x > place.x + 0.1 && x < place.x + place.width - 0.1 && (y - place.y).abs() < place.height / 2.0 - 0.1
        };
        for (number, one) in layout.places.iter().enumerate() {
            for other in &layout.places[..number] {
                let apart = (one.y - other.y).abs() >= BOX_HEIGHT
                    || one.x >= other.x + other.width
                    || other.x >= one.x + one.width;
                assert!(apart, "{count}: {one:?} {other:?}");
            }
        }
        for points in &layout.edges {
            for pair in points.windows(2) {
                let ((x1, y1), (x2, y2)) = (pair[0], pair[1]);
                assert!(x1 <= x2, "an edge goes back: {points:?}");
                // A curve stays between its ends in x, and a straight piece at its height.
                for step in 0..=20 {
                    let part = f64::from(step) / 20.0;
                    let smooth = part * part * (3.0 - 2.0 * part);
                    let (x, y) = (x1 + (x2 - x1) * part, y1 + (y2 - y1) * smooth);
                    assert!(!layout.places.iter().any(|place| inside(place, x, y)), "{count}: {points:?}");
                }
            }
        }
    }
}

#[test]
fn edges_begin_at_what_is_read_and_end_at_the_reader() {
    let nodes = [node("a", &[]), node("b", &[0]), node("c", &[1]), node("d", &[0, 2])];
    let layout = layout(&nodes);
    let ends: Vec<((f64, f64), (f64, f64))> =
        layout.edges.iter().map(|points| (points[0], points[points.len() - 1])).collect();
    for ((from, to), (start, end)) in [(0, 1), (1, 2), (0, 3), (2, 3)].iter().zip(ends) {
        let (from, to) = (layout.places[*from], layout.places[*to]);
        assert_eq!((start, end), ((from.x + from.width, from.y), (to.x, to.y)));
    }
    assert!(layout.places[0].x < layout.places[1].x && layout.places[2].x < layout.places[3].x);
}

#[test]
fn the_text_is_whole_and_safe_and_always_the_same() {
    let mut nodes = vec![node("a<&\"\u{1}", &[]), node("b", &[0])];
    nodes[1].count = 24;
    let svg = to_svg("p", &nodes);
    assert!(svg.contains("a&lt;&amp;&quot;") && svg.contains(">b ×24</text>"), "{svg}");
    assert_eq!(svg, to_svg("p", &nodes));
    assert_eq!(svg.matches("marker-end").count(), 1);
    let png = crate::report::figure::to_png(&to_svg("t", &tangle(40))).unwrap();
    assert!(png.starts_with(b"\x89PNG"));
}
