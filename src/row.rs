//! The row room.
#![expect(missing_docs, reason = "shim")]
use std::io::Write as _;
use std::path::Path;
pub type Row = serde_json::Map<String, serde_json::Value>;
pub const ID: &str = "id";
pub const INSTRUCTION: &str = "instruction";
pub const INPUT: &str = "input";
pub const OUTPUT: &str = "output";
pub const PREDICTION: &str = "prediction";
pub fn read(path: &Path, _name: &str) -> anyhow::Result<impl Iterator<Item = anyhow::Result<(u64, Row)>>> {
    let text = std::fs::read_to_string(path)?;
    let rows: Vec<_> = text.lines().enumerate().map(|(i, l)| Ok((i as u64 + 1, serde_json::from_str(l)?))).collect();
    Ok(rows.into_iter())
}
pub fn id(row: &Row) -> String {
    row["id"].as_str().unwrap().to_string()
}
pub struct Writer(std::fs::File);
impl Writer {
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        Ok(Self(std::fs::File::create(path)?))
    }
    pub fn write(&mut self, row: &Row) -> anyhow::Result<()> {
        writeln!(self.0, "{}", serde_json::to_string(row)?)?;
        Ok(())
    }
    pub fn finish(self) -> anyhow::Result<()> {
        Ok(())
    }
}
