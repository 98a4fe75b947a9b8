//! Texts keep apart: measured in the font that draws them.

use super::super::ink::{Anchor, Ink, Shape, Text};
use super::super::paint::paint;
use super::super::text::{FONT, width};
use super::*;

/// The corners of a text's letters, which may be turned.
fn corners(text: &Text) -> [(f64, f64); 4] {
    let length = width(&text.shown);
    let start = match text.anchor {
        Anchor::Start => 0.0,
        Anchor::Middle => -length / 2.0,
        Anchor::End => -length,
    };
    let (sin, cos) = text.turn.to_radians().sin_cos();
    // From the base line to the height of a capital letter.
    [(start, 0.0), (start + length, 0.0), (start + length, -0.69 * FONT), (start, -0.69 * FONT)]
        .map(|(x, y)| (text.x + x * cos - y * sin, text.y + x * sin + y * cos))
}

/// Whether a line along an edge of one of two rectangles parts them.
fn are_apart(a: &[(f64, f64); 4], b: &[(f64, f64); 4]) -> bool {
    let along = |corners: &[(f64, f64); 4], (x, y): (f64, f64)| {
        let places = corners.map(|corner| corner.0 * x + corner.1 * y);
        (places.into_iter().fold(f64::INFINITY, f64::min), places.into_iter().fold(f64::NEG_INFINITY, f64::max))
    };
    [a, b].into_iter().flat_map(|corners| [(0, 1), (1, 2)].map(|(i, j)| (corners[i], corners[j]))).any(|(from, to)| {
        let axis = (to.0 - from.0, to.1 - from.1);
        let (a, b) = (along(a, axis), along(b, axis));
        a.1 <= b.0 || b.1 <= a.0
    })
}

fn texts(ink: &Ink) -> Vec<&Text> {
    let texts = ink.shapes.iter().filter_map(|shape| match shape {
        Shape::Text(text) => Some(text),
        _ => None,
    });
    texts.collect()
}

#[test]
fn no_text_runs_into_another_or_out_of_the_figure() {
    for (recipe, table) in samples() {
        let ink = paint(&figure_of(recipe, &table).unwrap(), Theme::Light);
        let texts = texts(&ink);
        assert!(texts.len() > 5, "{recipe}");
        for (number, text) in texts.iter().enumerate() {
            let own = corners(text);
            let inside = |(x, y): (f64, f64)| (0.0..=ink.width).contains(&x) && (0.0..=ink.height).contains(&y);
            assert!(own.into_iter().all(inside), "`{}` leaves the figure: {recipe}", text.shown);
            for other in &texts[..number] {
                assert!(are_apart(&own, &corners(other)), "`{}` and `{}` overlap: {recipe}", text.shown, other.shown);
            }
        }
    }
}

#[test]
fn the_test_sees_texts_that_overlap() {
    let text = |x: f64, turn: f64| Text {
        x,
        y: 50.0,
        anchor: Anchor::Middle,
        colour: super::super::colour::Rgb(0, 0, 0),
        turn,
        shown: "some words".to_string(),
        whole: None,
    };
    let apart = |x: f64, turn: f64| are_apart(&corners(&text(50.0, 0.0)), &corners(&text(x, turn)));
    assert!(!apart(60.0, 0.0) && !apart(50.0, -45.0) && !apart(75.0, 90.0));
    assert!(apart(150.0, 0.0) && apart(90.0, 90.0));
}

#[test]
fn texts_are_seven_points_high_where_a_figure_is_printed_as_wide_as_it_says() {
    let figure = figure_of("kind='line'\nx='n'\ny='em'\nseries='task'", &curves(&["a"])).unwrap();
    let ink = paint(&figure, Theme::Light);
    // An inch is 2.54 cm and 72 points.
    assert!(FONT / ink.width * 8.5 / 2.54 * 72.0 >= 7.0, "{}", ink.width);
    let wide = figure_of("kind='line'\nx='n'\ny='em'\nseries='task'\nwidth=17", &curves(&["a"])).unwrap();
    assert_eq!(paint(&wide, Theme::Light).width, 2.0 * ink.width);
}

#[test]
fn the_same_things_stand_at_the_same_places_in_both_themes() {
    for (recipe, table) in samples() {
        let figure = figure_of(recipe, &table).unwrap();
        let (light, dark) = (figure.to_svg(Theme::Light), figure.to_svg(Theme::Dark));
        let without_colours = |svg: &str| -> String {
            let mut parts = svg.split("=\"#");
            let first = parts.next().unwrap_or_default().to_string();
            parts.fold(first, |text, part| text + &part[6..])
        };
        assert_eq!(without_colours(&light), without_colours(&dark), "{recipe}");
        assert_ne!(light, dark);
    }
}
