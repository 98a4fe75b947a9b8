//! Bad input: nothing panics, nothing is lost, and every mistake is named.

use super::*;
use resvg::usvg::roxmltree::Document;

#[test]
fn texts_are_inert_and_whole() {
    let evil = [
        "<script>alert(1)</script>",
        "a/b\"c'd&e]]>",
        "]]><image href=\"http://x\"/>",
        "a name that is much too long to stand under any axis of a figure in a paper, or beside it",
        "漢字 \u{1f389}",
    ];
    let rows: Vec<Json> = evil.iter().enumerate().map(|(n, text)| json!([n, text, "em", 0.1, null, null])).collect();
    let data = table(TIDY, &rows);
    for recipe in [
        "kind='bar'\nx='task'\ny='em'\nwhere='n >= 0'\ntitle='<b>&amp;</b>'",
        "kind='line'\nx='n'\ny='em'\nseries='task'",
        "kind='line'\nx='n'\ny='em'\npanel='task'",
        "kind='heatmap'\nx='n'\ny='task'\nvalue_label='</text><script/>'",
    ] {
        let figure = figure_of(recipe, &data).unwrap();
        let svg = figure.to_svg(Theme::Light);
        let document = Document::parse(&svg).unwrap();
        let known = ["svg", "title", "desc", "rect", "path", "circle", "text"];
        let mut elements = document.descendants().filter(|node| node.is_element());
        assert!(elements.all(|node| known.contains(&node.tag_name().name())), "{svg}");
        let texts: Vec<&str> = document.descendants().filter_map(|node| node.text()).collect();
        for text in evil {
            assert!(texts.contains(&text), "{recipe}: {text}");
        }
        assert!(figure.to_pdf().unwrap().starts_with(b"%PDF"));
        to_png(&svg).unwrap();
    }
    // A whole prompt is cut where it is shown, and fast.
    let prompt = "word ".repeat(40_000);
    let svg = svg_of(
        "kind='bar'\nx='task'\ny='em'\nwhere='n == 0'",
        &table(TIDY, &[json!([0, prompt, "em", 0.1, null, null])]),
    );
    assert!(svg.contains(prompt.trim()) && svg.contains("…"));
    // What XML forbids is left out, what cannot be seen is said.
    let rows = [
        json!([0, "a\u{0}b\u{b}\n c", "em", 0.1, null, null]),
        json!([1, "", "em", 0.1, null, null]),
        json!([2, null, "em", 0.2, null, null]),
    ];
    let svg = svg_of("kind='line'\nx='n'\ny='em'\nseries='task'", &table(TIDY, &rows));
    for text in [">ab   c<", ">&quot;&quot;<", ">–<"] {
        assert!(svg.contains(text), "{text} in {svg}");
    }
}

#[test]
fn figures_without_data_say_so() {
    let empty = table(TIDY, &[]);
    let nulls = table(TIDY, &[json!([5, "a", "em", null, null, null]), json!([6, "a", "em", null, null, null])]);
    for data in [&empty, &nulls] {
        for recipe in [
            "kind='line'\nx='n'\ny='em'\nseries='task'",
            "kind='bar'\nx='n'\ny='em'\nseries='task'",
            "kind='box'\nof='table'\nx='n'\ny='em'",
            "kind='violin'\nof='table'\nx='n'\ny='em'",
            "kind='scatter'\nof='table'\nx='em'\ny='gpt4'",
            "kind='density'\nof='table'\nx='em'",
            "kind='heatmap'\nx='n'\ny='task'",
            "kind='line'\nx='n'\ny='em'\npanel=['task','metric']\ny_scale='log'\nscale='symlog'",
        ] {
            // A metric that no row has is a mistake, unless there is no row.
            let recipe = if data.rows() > 0 && recipe.contains("gpt4") { continue } else { recipe };
            let figure = figure_of(recipe, data).unwrap_or_else(|error| panic!("{recipe}: {error:#}"));
            let svg = figure.to_svg(Theme::Light);
            let says = svg.contains(">no data<") || figure.panels.is_empty();
            assert!(says && !svg.contains("NaN") && !svg.contains("inf"), "{recipe}: {svg}");
            figure.to_pdf().unwrap();
            to_png(&svg).unwrap();
        }
    }
}

#[test]
fn numbers_without_a_place_never_reach_a_figure() {
    let mut data = curves(&["a", "b"]);
    for name in ["mean", "ci_low", "ci_high"] {
        let column = data.columns.iter_mut().find(|column| column.name == name).unwrap();
        for (number, value) in
            [f64::NAN, f64::INFINITY, f64::MAX, f64::NEG_INFINITY, 1e300, -1e300, 5e-324].into_iter().enumerate()
        {
            column.cells[number * 3] = Cell::Float(value);
        }
    }
    for recipe in [
        "kind='line'\nx='n'\ny='em'\nseries='task'\nreference={where='n == 0'}",
        "kind='bar'\nx='n'\ny='em'\nseries='task'",
        "kind='box'\nof='table'\nx='task'\ny='em'",
        "kind='violin'\nof='table'\nx='task'\ny='em'",
        "kind='scatter'\nof='table'\nx='em'\ny='gpt4'\nregression='band'\nedges=true",
        "kind='density'\nof='table'\nx='em'",
        "kind='heatmap'\nx='n'\ny='task'\nwhere='metric == \"em\"'\nannotate=true",
        "kind='line'\nx='n'\ny='em'\nseries='task'\ny_scale='symlog'",
    ] {
        let figure = figure_of(recipe, &data).unwrap_or_else(|error| panic!("{recipe}: {error:#}"));
        let svg = figure.to_svg(Theme::Light);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{recipe}: {svg}");
        figure.to_pdf().unwrap();
    }
}

#[test]
fn what_cannot_be_read_is_refused() {
    let rows: Vec<Json> = (0..1000).map(|n| json!([n, format!("t{n}"), "em", 0.5, null, null])).collect();
    let many = table(TIDY, &rows);
    let message = failure("kind='line'\nx='n'\ny='em'\nseries='task'", &many);
    assert!(
        message.contains("1000 series") && message.contains("at most 24") && message.contains("`panel`"),
        "{message}"
    );
    let message = failure("kind='bar'\nx='task'\ny='em'\nseries='n'", &many);
    assert!(message.contains("`task` has 1000 values") && message.contains("at most 100"), "{message}");
    let message = failure("kind='line'\nx='n'\ny='em'\npanel='task'", &many);
    assert!(message.contains("1000 panels") && message.contains("at most 64"), "{message}");
    let message = failure("kind='heatmap'\nx='n'\ny='task'", &many);
    assert!(message.contains("`n` has 1000 values"), "{message}");
    // A hundred names still stand under an axis.
    let svg = svg_of("kind='bar'\nx='task'\ny='em'\nwhere='n < 100'", &many);
    assert_eq!(count(&svg, "bar"), 100);
}

#[test]
fn mistakes_in_the_table_are_named() {
    let data = curves(&["a", "b"]);
    let message = failure("kind='line'\nx='n'\ny='exact'\nseries='task'", &data);
    assert!(message.contains("no metric `exact`") && message.contains("known are `em`, `gpt4.score`"), "{message}");
    let message = failure("kind='line'\nx='n'\ny='em'\nseries='task'\nvalue='median'", &data);
    assert!(message.contains("no column `median`: did you mean `mean`?"), "{message}");
    let message = failure("kind='line'\nx='n'\ny='em'\nwhere='n >= 0'", &data);
    assert!(message.contains("two values have one place (n = 0)") && message.contains("`series`"), "{message}");
    let message = failure("kind='heatmap'\nx='n'\ny='task'", &data);
    assert!(
        message.contains("two values have one place (n = 0, task = a)") && message.contains("metric =="),
        "{message}"
    );
    let message = failure("kind='line'\nx='task'\ny='em'\nseries='n'", &data);
    assert!(message.contains("`task` is \"a\": the x of a line must be a number"), "{message}");
    let message = failure("kind='line'\nx='n'\ny='em'\nseries='task'\nscale='log'", &data);
    assert!(message.contains("`n` is 0") && message.contains("symlog"), "{message}");
    let message = failure(
        "kind='bar'\nx='n'\ny='em'\nseries='task'\nvalue='ci_low'\ny_scale='log'\nwhere='n > 0'\ninterval=false",
        &table(TIDY, &[json!([1, "a", "em", 1, 0, 2])]),
    );
    assert!(message.contains("`em` is 0") && message.contains("y_scale"), "{message}");
    let message = failure("kind='box'\nx='system'\ny='system'", &rows());
    assert!(message.contains("`system` holds \"BART\", which is no number"), "{message}");
    let message = failure("kind='line'\nx='n'\ny='em'\nseries='task'\nreference={where='n == 3'}", &data);
    assert!(message.contains("reference line `n == 3`") && message.contains("no row"), "{message}");
    let message = failure("kind='scatter'\nx='rouge'\ny='rouge'", &rows());
    assert!(message.contains("two different metrics"), "{message}");
}

#[test]
fn mistakes_in_settings_are_shown_at_their_place() {
    let problem = |text: &str| read(text, &["n", "task"]).unwrap_err();
    let text = problem("kind = 'line'\nx = 'm'\ny = 'em'\nseries = ['n', 'task']");
    assert!(text.contains("`m` is not in `by`") && text.contains("m.toml:2:5"), "{text}");
    assert!(problem("kind='line'\nx='n'\ny='em'").contains("add `task` to `series` or `panel`"));
    assert!(problem("kind='line'\nx='n'\ny='em'\nseries=['n','task']").contains("`n` is both `x` and `series`"));
    let text = problem("kind='line'\nx='n'\ny='em'\nseries='task'\nscale='symlg'");
    assert!(text.contains("did you mean `symlog`?"), "{text}");
    let text = problem("kind='line'\nx='n'\ny='em'\nseries='task'\nmask='lower'");
    assert!(text.contains("`mask` means nothing for `line`") && text.contains("it is for `heatmap`"), "{text}");
    assert!(
        problem("kind='line'\nx='n'\nseries='task'")
            .contains("`y` of a figure of kind `line` must name one or more (a metric)")
    );
    assert!(problem("kind='density'\nx='em'\ny='em'").contains("`y` of a figure of kind `density` must not be there"));
    assert!(problem("kind='line'\nx='n'\ny='em'\npanel=['task','a','b']").contains("one or two columns"));
    assert!(problem("kind='line'\nx='n'\ny='em'\nseries='task'\nname='a/b'").contains("`a/b` is no name"));
    let text = problem("kind='line'\nx='n'\ny='em'\nseries='task'\nwhere='n >'");
    assert!(text.contains("`n >` is not an expression") && text.contains("m.toml:5:7"), "{text}");
    assert!(problem("kind='line'\nx='n'\ny='em'\nseries='task'\nreference={y='em'}").contains("needs `where`"));
    assert!(problem("kind='line'\nx='n'\ny='em'\nseries='task'\nreference={value=1,y='em'}").contains("neither"));
    assert!(problem("kind='line'\nx='n'\ny='em'\nseries='task'\ninterval='q25'").contains("names of two columns"));
    assert!(problem("kind='line'\nx='n'\ny='em'\nseries='task'\nwidth=1").contains("expected 4 to 60"));
    assert!(problem("kind='heatmap'\nof='rows'\nx='n'\ny='task'").contains("a cell has one value"));
    assert!(problem("kind='box'\nx='n'\ny='em'\nvalue='mean'").contains("name it in `y`"));
}

#[test]
fn recipes_survive_a_key() {
    let text = "kind='line'\nx='n'\ny=['em','a.b']\npanel='task'\nlevels={task={b='B',a='A'},n=[1,0.5]}\n\
                interval=['ci_low','ci_high']\nreference=[{where='n == 0'},{value=0.5}]";
    let recipe = read(text, &["n", "task"]).unwrap();
    let written = serde_json::to_string(&recipe).unwrap();
    assert_eq!(serde_json::from_str::<FigureRecipe>(&written).unwrap(), recipe);
    let names: Vec<&str> = recipe.levels.0[0].1.iter().map(|level| level.value.as_str()).collect();
    assert_eq!((names, recipe.file_name().as_str()), (vec!["b", "a"], "em-a.b"));
    assert_eq!(recipe.metrics(), [("y", "em"), ("y", "a.b")]);
    let columns = [("panel", "task"), ("x", "n")].map(|(setting, name)| (setting, name.to_string()));
    assert_eq!(recipe.columns(), columns);
    let other = read("kind='box'\nx='n'\ny='em'\nwhere='task == \"a\" and size > 3'", &["n"]).unwrap();
    let columns = [("x", "n"), ("where", "size"), ("where", "task")].map(|(setting, name)| (setting, name.to_string()));
    assert_eq!(other.columns(), columns);
}

#[test]
fn every_kind_is_in_the_table() {
    let schema = FigureKind::schema();
    let words = schema["enum"].as_array().unwrap();
    assert_eq!(words.len(), KINDS.len());
    for word in words {
        let kind: FigureKind = serde_json::from_value(word.clone()).unwrap();
        assert!(KINDS.iter().any(|known| known.kind == kind), "{word}");
    }
}

#[test]
fn log_scales_have_no_place_for_zero() {
    let data = table(TIDY, &[json!([1, "a", "em", 0.2, -0.1, 0.5]), json!([10, "a", "em", 0.4, 0.1, 0.7])]);
    let line = "kind='line'\nx='n'\ny='em'\nseries='task'\ny_scale='log'";
    let svg = svg_of(line, &data);
    assert!(!svg.contains("NaN") && count(&svg, "interval") == 1, "{svg}");
    let message = failure(&format!("{line}\nreference={{value=0,label='none'}}"), &data);
    assert!(message.contains("`none` is 0") && message.contains("y_scale"), "{message}");
    let zero = table(&["a", "b"], &[json!([0, 1]), json!([1, 0])]);
    let message = failure("kind='scatter'\nx='a'\ny='b'\nscale='log'", &zero);
    assert!(message.contains("`a` is 0") && message.contains("`scale = "), "{message}");
    let message = failure("kind='scatter'\nx='a'\ny='b'\ny_scale='log'", &zero);
    assert!(message.contains("`b` is 0") && message.contains("`y_scale = "), "{message}");
}
