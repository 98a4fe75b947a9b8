//! Marks stand where their values are.

use super::*;
use resvg::tiny_skia::Pixmap;
use resvg::usvg::roxmltree::Document;

/// The points of all paths and circles of a class.
fn marks(svg: &str, class: &str) -> Vec<Vec<(f64, f64)>> {
    let document = Document::parse(svg).unwrap();
    let of_class = document.descendants().filter(|node| node.attribute("class") == Some(class));
    let points = of_class.map(|node| match node.attribute("d") {
        Some(path) => {
            let numbers = path.split(['M', 'L', 'Z']).filter(|part| !part.is_empty());
            let pair =
                |part: &str| part.split_once(' ').map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap())).unwrap();
            numbers.map(pair).collect()
        }
        None => {
            let number = |name: &str| node.attribute(name).unwrap().parse::<f64>().unwrap();
            vec![(number("cx"), number("cy")), (number("r"), 0.0)]
        }
    });
    points.collect()
}

/// All texts, whole.
fn texts(svg: &str) -> Vec<String> {
    let document = Document::parse(svg).unwrap();
    let of = |node: resvg::usvg::roxmltree::Node<'_, '_>| {
        let whole = node.children().find(|child| child.has_tag_name("title")).and_then(|title| title.text());
        whole.or(node.text()).unwrap_or_default().to_string()
    };
    document.descendants().filter(|node| node.has_tag_name("text")).map(of).collect()
}

#[test]
fn lines_go_through_their_values() {
    let svg = svg_of("kind='line'\nx='n'\ny='em'\nseries='task'\nscale='symlog'", &curves(&["sst2", "xsum"]));
    // Eight points of each, and a sample of each line in the legend.
    assert_eq!((count(&svg, "point"), count(&svg, "line"), count(&svg, "interval")), (16 + 2, 2, 2));
    let line = &marks(&svg, "line")[0];
    // The y axis goes from 0 to 0.8: means are 0.05 + 0.08 for each step; the greatest end of an interval is 0.67.
    let height = line[0].1 - line[7].1;
    for (step, (x, y)) in line.iter().enumerate() {
        assert!((line[0].1 - y - height * step as f64 / 7.0).abs() < 0.02, "{line:?}");
        // symlog: log10(1 + n / 10), for 10 is the least n that is not 0.
        let n = [0.0, 10.0, 25.0, 50.0, 100.0, 200.0, 400.0, 1000.0][step];
        let share = (1.0 + n / 10.0_f64).log10() / 101_f64.log10();
        assert!((x - line[0].0 - share * (line[7].0 - line[0].0)).abs() < 0.02, "{line:?}");
    }
    let found = texts(&svg);
    for text in ["0", "10", "1000", "sst2", "xsum", "task", "em", "n (symmetric log scale)"] {
        assert!(found.contains(&text.to_string()), "{text} in {found:?}");
    }
}

#[test]
fn one_line_needs_no_legend_and_one_point_no_line() {
    let svg = svg_of("kind='line'\nx='n'\ny='em'\nseries='task'\nwhere='n == 25'", &curves(&["sst2"]));
    assert_eq!((count(&svg, "point"), count(&svg, "line"), count(&svg, "interval")), (1, 0, 1));
    assert!(!texts(&svg).contains(&"sst2".to_string()));
}

#[test]
fn bars_are_as_high_as_their_values() {
    let svg = svg_of("kind='bar'\nx='task'\ny=['em','gpt4']\nwhere='n == 200'", &curves(&["a", "b"]));
    let bars = marks(&svg, "bar");
    let height =
        |bar: &[(f64, f64)]| bar.iter().map(|p| p.1).fold(0.0, f64::max) - bar.iter().map(|p| p.1).fold(1e9, f64::min);
    // By task and metric: 0.45, 0.55, 0.46, 0.56.
    let heights: Vec<f64> = bars.iter().map(|bar| height(bar)).collect();
    assert_eq!(heights.len(), 4);
    for (found, expected) in heights.iter().zip([0.45, 0.55, 0.46, 0.56]) {
        assert!((found / heights[0] - expected / 0.45).abs() < 1e-3, "{heights:?}");
    }
    assert_eq!(count(&svg, "interval"), 4);
    let sorted = svg_of("kind='bar'\nx='task'\ny='em'\nwhere='n == 200'\nsort='descending'", &curves(&["a", "b"]));
    let names: Vec<String> = texts(&sorted).into_iter().filter(|text| text == "a" || text == "b").collect();
    assert_eq!(names, ["b", "a"]);
}

#[test]
fn boxes_equal_those_of_matplotlib() {
    // matplotlib.cbook.boxplot_stats 3.10.
    let cases: [(&[f64], [f64; 5], &[f64]); 5] = [
        (
            &[-4.0, 0.1, 0.4, 0.4, 0.55, 0.9, 1.7, 2.0, 2.0, 2.0, 3.25, 5.0, 9.0],
            [0.1, 0.4, 1.7, 2.0, 3.25],
            &[-4.0, 5.0, 9.0],
        ),
        (&[1.0, 1.0, 1.0, 1.0, 5.0], [1.0, 1.0, 1.0, 1.0, 1.0], &[5.0]),
        (&[2.5], [2.5, 2.5, 2.5, 2.5, 2.5], &[]),
        (&[0.0, 1.0], [0.0, 0.25, 0.5, 0.75, 1.0], &[]),
        (&[1.0, 2.0, 3.0, 10.0, 11.0, 12.0, 13.0, 14.0, 40.0], [1.0, 3.0, 11.0, 13.0, 14.0], &[40.0]),
    ];
    for (values, [low, q1, median, q3, high], outliers) in cases {
        let (five, beyond) = boxes::spread(values).unwrap();
        // Quantiles are interpolated from the other end there.
        let close = |a: f64, b: f64| (a - b).abs() <= 1e-15 * b.abs();
        assert!(close(five.q1, q1) && close(five.median, median) && close(five.q3, q3), "{five:?}");
        assert_eq!((five.low, five.high, beyond.as_slice()), (low, high, outliers));
    }
    assert!(boxes::spread(&[]).is_none());
    let svg = svg_of("kind='box'\nx='system'\ny=['rouge','human']", &rows());
    assert_eq!((count(&svg, "box"), count(&svg, "median"), count(&svg, "whisker")), (6, 6, 12));
}

#[test]
fn regressions_equal_those_of_statsmodels() {
    let cloud = [(0.0, 0.1), (1.0, 0.9), (2.0, 2.3), (3.0, 2.8), (4.0, 4.4), (5.0, 4.6), (7.0, 7.3)];
    let marks = scatter::regression(&cloud, Regression::Band, 0);
    let [Mark::Band { points, .. }, Mark::Line { points: line, .. }] = &marks[..] else { panic!("{marks:?}") };
    // statsmodels 0.14: OLS, get_prediction(...).summary_frame(alpha=0.05) at 0, 3.5 and 7.
    let expected = [
        (0.0, -0.522_104_862_645_211_8, 0.574_563_879_038_652_9),
        (3.5, 3.239_166_215_873_684, 3.882_145_259_536_15),
        (7.0, 6.461_159_418_769_088, 7.729_004_515_657_139),
    ];
    for ((x, low, high), point) in expected.into_iter().zip([points[0], points[20], points[40]]) {
        // The quantile of Student's distribution is found by another way.
        let close = |a: f64, b: f64| (a - b).abs() < 1e-9;
        assert!(close(point.0, x) && close(point.1, low) && close(point.2, high), "{point:?}");
    }
    assert!((line[1].1 - 7.095_081_967_213_114).abs() < 1e-12);
    assert!(scatter::regression(&[(1.0, 1.0), (1.0, 2.0), (1.0, 3.0)], Regression::Line, 0).is_empty());
}

#[test]
fn points_have_the_size_of_their_count() {
    let data = table(
        &["a", "b"],
        &[json!([1, 1]), json!([1, 1]), json!([1, 1]), json!([1, 1]), json!([2, 3]), json!([null, 3])],
    );
    let svg = svg_of("kind='scatter'\nx='a'\ny='b'\nsize='count'\nedges=true", &data);
    let radii: Vec<f64> = marks(&svg, "point").iter().map(|mark| mark[1].0).collect();
    assert_eq!(radii, [9.0, 4.5]);
    assert!(texts(&svg).contains(&"4×".to_string()));
    // Two bins of each metric hold something.
    assert_eq!(count(&svg, "edge"), 4);
    let plain = svg_of("kind='scatter'\nx='a'\ny='b'", &data);
    assert_eq!(count(&plain, "point"), 2);
}

#[test]
fn points_of_a_tidy_table_are_its_groups() {
    let svg = svg_of("kind='scatter'\nof='table'\nx='em'\ny='gpt4.score'\nseries='task'", &curves(&["a", "b"]));
    assert_eq!(count(&svg, "point"), 16);
}

#[test]
fn a_great_many_points_are_drawn_once_each() {
    let row = |number: u32| json!([f64::from(number * 7919 % 100_003), f64::from(number * 104_729 % 99_991)]);
    let data = table(&["a", "b"], &(0..40_000).map(row).collect::<Vec<_>>());
    let figure = figure_of("kind='scatter'\nx='a'\ny='b'", &data).unwrap();
    assert!(figure.about.contains("drawn once"), "{}", figure.about);
    let points = count(&figure.to_svg(Theme::Light), "point");
    assert!(points > 10_000 && points < 40_000, "{points}");
}

#[test]
fn equal_values_have_a_spike_for_a_density() {
    let svg = svg_of("kind='density'\nx=['rouge','same']", &rows());
    assert_eq!((count(&svg, "area"), count(&svg, "spike")), (1, 1));
    let svg = svg_of("kind='violin'\nx='system'\ny='same'", &rows());
    assert_eq!(count(&svg, "violin"), 3);
}

#[test]
fn a_masked_heatmap_is_a_triangle_of_both_ways_round() {
    let names = ["statistic", "x", "y", "value"];
    let pairs = [
        json!(["s", "a", "b", 0.5]),
        json!(["s", "c", "a", -0.25]),
        json!(["s", "b", "c", 0.75]),
        json!(["s", "a", "a", 1.0]),
    ];
    let text = "kind='heatmap'\nof='statistics'\nx='x'\ny='y'\nmask='lower'\nlevels={x=['a','b','c']}\nwidth=12";
    let svg = svg_of(text, &table(&names, &pairs));
    let cells = marks(&svg, "cell");
    assert_eq!(cells.len(), 3);
    let found = texts(&svg);
    for text in ["0.50", "\u{2212}0.25", "0.75"] {
        assert!(found.contains(&text.to_string()), "{found:?}");
    }
    // Columns a and b, rows b and c; the cell beside the diagonal's end is free.
    assert_eq!(found.iter().filter(|text| *text == "a" || *text == "c").count(), 2, "{found:?}");
    // Values on both sides of 0: the colour of 0 is in the middle.
    let figure = figure_of(text, &table(&names, &pairs)).unwrap();
    assert!(figure.colour_bar.is_some_and(|bar| bar.diverging && bar.axis.low == -0.75 && bar.axis.high == 0.75));
}

#[test]
fn reference_lines_are_those_of_their_panel() {
    let text = "kind='line'\nx='n'\ny='em'\npanel='task'\nwhere='n > 0'\nscale='log'\n\
                reference=[{y='em',where='n == 0',label='base'},{value=0.5,label='chance'}]";
    let figure = figure_of(text, &curves(&["a", "b"])).unwrap();
    let levels = |panel: &Panel| -> Vec<f64> {
        let level = |mark: &Mark| if let Mark::Level { y, .. } = mark { Some(*y) } else { None };
        panel.marks.iter().filter_map(level).collect()
    };
    let found: Vec<Vec<f64>> = figure.panels.iter().map(levels).collect();
    assert_eq!(found, [[0.05, 0.5], [0.060_000_000_000_000_005, 0.5]]);
    let svg = figure.to_svg(Theme::Light);
    assert_eq!(count(&svg, "reference"), 4);
    assert!(texts(&svg).contains(&"base".to_string()) && texts(&svg).contains(&"chance".to_string()));
}

#[test]
fn panels_of_metrics_have_axes_of_their_own() {
    let figure =
        figure_of("kind='line'\nx='n'\ny=['em','gpt4']\npanel=['metric','task']", &curves(&["a", "b", "c"])).unwrap();
    assert_eq!((figure.columns, figure.panels.len()), (3, 6));
    assert_eq!(figure.row_titles, ["em", "gpt4.score"]);
    assert!(figure.shared_y && figure.panels[0].y == figure.panels[2].y);
    let one = figure_of("kind='line'\nx='n'\ny='em'\npanel='task'", &curves(&["a", "b"])).unwrap();
    assert_eq!(one.panels.iter().map(|panel| panel.title.as_str()).collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn levels_have_the_order_and_the_names_that_a_person_gives() {
    let names = |levels: &str| {
        let text = format!("kind='bar'\nx='task'\ny='em'\nwhere='n == 10'\nlevels={levels}");
        let found = texts(&svg_of(&text, &curves(&["a", "b", "c"])));
        found.into_iter().filter(|text| ["a", "b", "c", "Task B"].contains(&text.as_str())).collect::<Vec<_>>()
    };
    assert_eq!(names("{ task = ['c', 'a'] }"), ["c", "a", "b"]);
    assert_eq!(names("{ task = { b = 'Task B' } }"), ["Task B", "a", "c"]);
    // Numbers that came as texts are numbers.
    let rows = ["100", "20", "3"].map(|n| json!([n, "a", "em", 0.5, null, null]));
    let found = texts(&svg_of("kind='bar'\nx='n'\ny='em'\nseries='task'", &table(TIDY, &rows)));
    assert_eq!(
        found.into_iter().filter(|text| ["3", "20", "100"].contains(&text.as_str())).collect::<Vec<_>>(),
        ["3", "20", "100"]
    );
}

#[test]
fn bytes_are_the_same_every_time_and_pictures_show_something() {
    for (text, table) in samples() {
        let recipe = read(text, &by(&table)).unwrap();
        let draw = || draw(&recipe, &table, &|expression| mask(expression, &table)).unwrap();
        let files = draw();
        assert_eq!(files, draw(), "{text}");
        assert!(
            files.iter().map(|(ending, _)| *ending).eq([".png", ".pdf", "-dark.png", ".svg", "-dark.svg"]),
            "{text}"
        );
        let [png, pdf, dark, svg, _] = &files[..] else { panic!("{text}") };
        for (_, bytes) in [png, dark] {
            assert_eq!(bytes[..8], *b"\x89PNG\r\n\x1a\n");
            let pixels = Pixmap::decode_png(bytes).unwrap();
            let paper = pixels.pixel(0, 0).unwrap();
            let share =
                pixels.pixels().iter().filter(|pixel| **pixel != paper).count() as f64 / pixels.pixels().len() as f64;
            assert!((0.01..0.95).contains(&share), "{text}: {share}");
        }
        assert!(pdf.1.starts_with(b"%PDF-1") && pdf.1.trim_ascii_end().ends_with(b"%%EOF"), "{text}");
        for word in [&b"CreationDate"[..], b"ModDate"] {
            assert!(!pdf.1.windows(word.len()).any(|bytes| bytes == word), "{text}");
        }
        Document::parse(std::str::from_utf8(&svg.1).unwrap()).unwrap();
    }
}

#[test]
fn pictures_show_their_texts() {
    // Without the font there would be fewer dark pixels.
    let with = svg_of("kind='line'\nx='n'\ny='em'\nseries='task'", &curves(&["a"]));
    let without = with.replace(">n<", "> <");
    assert_ne!(with, without);
    assert_ne!(to_png(&with).unwrap(), to_png(&without).unwrap());
}
