//! PNG pictures of SVG text.

use super::text::BYTES;
use anyhow::Context as _;
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree};
use std::sync::Arc;

/// Pixels for each unit of the SVG: about 300 to the inch at the width of a paper's column.
const SCALE: f32 = 3.0;

/// A greater picture has fewer pixels for each unit: nobody looks at it whole.
const GREATEST: f32 = 64e6;

/// Draws `svg`. The only font is the one that the program carries, so the bytes do not depend on a machine's fonts.
pub(super) fn render(svg: &str) -> anyhow::Result<Vec<u8>> {
    let mut options = Options { font_family: "Ubuntu".to_string(), ..Options::default() };
    Arc::make_mut(&mut options.fontdb).load_font_data(BYTES.to_vec());
    let tree = Tree::from_str(svg, &options)?;
    let area = tree.size().width() * tree.size().height();
    let scale = SCALE.min((GREATEST / area).sqrt());
    let size = tree.size().to_int_size().scale_by(scale).context("a figure without size")?;
    let mut pixels = Pixmap::new(size.width(), size.height()).context("a figure without size")?;
    resvg::render(&tree, Transform::from_scale(scale, scale), &mut pixels.as_mut());
    Ok(pixels.encode_png()?)
}
