//! Figures hold what they are given, the same way every time.

use super::*;

fn chart(scale: Scale) -> Chart {
    let point = |x, y, half: Option<f64>| Point { x, y, interval: half.map(|half| (y - half, y + half)) };
    let series = |label: &str, means: [f64; 4]| Series {
        label: label.to_string(),
        points: [0.0, 20.0, 80.0, 320.0]
            .into_iter()
            .zip(means)
            .map(|(x, y)| point(x, y, (x > 0.0).then_some(0.06)))
            .collect(),
    };
    Chart {
        title: String::new(),
        x_label: "n".to_string(),
        y_label: "em <&>".to_string(),
        scale,
        legend: "target".to_string(),
        series: vec![series("sst2", [0.01, 0.48, 0.71, 0.93]), series("xsum", [0.02, 0.11, 0.24, 0.31])],
    }
}

#[test]
fn every_point_and_band_is_drawn() {
    let svg = chart(Scale::Symlog).to_svg();
    // Eight points, and a sample of each line in the legend.
    assert_eq!(svg.matches("class=\"point\"").count(), 8 + 2);
    assert_eq!(svg.matches("class=\"interval\"").count(), 2);
    for text in [">0<", ">20<", ">80<", ">320<", ">sst2<", ">em &lt;&amp;&gt;<"] {
        assert!(svg.contains(text), "{text} in {svg}");
    }
}

#[test]
fn a_line_without_points_or_intervals_can_be_drawn() {
    let mut chart = chart(Scale::Linear);
    chart.series.truncate(1);
    chart.series[0].points.truncate(1);
    let svg = chart.to_svg();
    assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    // A single line needs no legend.
    assert!(!svg.contains(">sst2<"), "{svg}");
    chart.series[0].points.clear();
    assert!(!chart.to_svg().contains("NaN"));
}

#[test]
fn bytes_are_the_same_every_time() {
    let svg = chart(Scale::Symlog).to_svg();
    assert_eq!(svg, chart(Scale::Symlog).to_svg());
    let png = to_png(&svg).unwrap();
    assert_eq!(png, to_png(&svg).unwrap());
    assert_eq!(png[..8], *b"\x89PNG\r\n\x1a\n");
    // Texts are drawn: without the font there would be fewer dark pixels.
    let mut silent = chart(Scale::Symlog);
    silent.x_label.clear();
    assert_ne!(png, to_png(&silent.to_svg()).unwrap());
}
